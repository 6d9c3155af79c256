"""Every format gives back what it was given, or says that it cannot."""

from __future__ import annotations

from dataclasses import replace

import pytest

from contract.codec_suite import make_frame, make_spec
from leanpacs.codecs.native import pack
from leanpacs.dicom.frames import FrameSpec
from leanpacs.errors import CodecError, ReportError
from leanpacs.report.formats import ALL, QUICK, STANDARD, chosen, encode_exactly, frame_formats

FORMATS = frame_formats(ALL)
SPECS = {
    "8 bit": make_spec(40, 52, allocated=8, stored=8),
    "12 bit": make_spec(40, 52, allocated=16, stored=12),
    "16 bit": make_spec(40, 52, allocated=16, stored=16),
    "16 bit signed": make_spec(40, 52, allocated=16, stored=16, pixel_representation=1),
    "12 bit signed": make_spec(40, 52, allocated=16, stored=12, pixel_representation=1),
    "colour": make_spec(40, 52, allocated=8, stored=8, samples=3),
    "planar colour": make_spec(40, 52, allocated=8, stored=8, samples=3, planar_configuration=1),
}


@pytest.mark.parametrize("content", ["smooth", "noise"])
@pytest.mark.parametrize("kind", SPECS)
@pytest.mark.parametrize("one", FORMATS, ids=lambda one: one.key)
def test_frames_come_back(one, kind: str, content: str) -> None:
    spec: FrameSpec = SPECS[kind]
    frame = pack(make_frame(spec, content), spec)
    try:
        stream, precision = encode_exactly(one, frame, spec)
    except CodecError:
        assert one.key in {"webp", "avif"}, "only these have too few bits"
        assert spec.bits_stored > (8 if one.key == "webp" else 12)
        return
    assert one.decode(stream, spec, precision) == frame


@pytest.mark.parametrize("one", FORMATS, ids=lambda one: one.key)
def test_values_above_bits_stored_come_back_too(one) -> None:
    spec = make_spec(40, 52, allocated=16, stored=16)
    frame = pack(make_frame(spec, "noise"), spec)
    narrow = replace(spec, bits_stored=12, high_bit=11)
    try:
        stream, precision = encode_exactly(one, frame, narrow)
    except CodecError:
        assert one.key in {"webp", "avif"}
        return
    assert one.decode(stream, narrow, precision) == frame


def test_names_of_formats() -> None:
    assert set(QUICK) < set(STANDARD) < set(ALL)
    assert chosen("jpegxl") == ("jpegxl-1", "jpegxl-3", "jpegxl-7", "jpegxl-9")
    assert chosen("png, zstd-3") == ("zstd-3", "png")
    assert chosen("all") == ALL
    with pytest.raises(ReportError, match="no format is called 'jpg'"):
        chosen("zstd-3,jpg")


def test_every_format_describes_itself() -> None:
    for one in FORMATS:
        described = one.describe()
        assert described.key == one.key
        assert described.library
