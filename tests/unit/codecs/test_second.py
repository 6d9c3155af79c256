"""Second decoders: they agree with the first one on everything, and refuse what they would get wrong."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import imagecodecs
import numpy as np
import pytest

from contract.codec_suite import make_frame, make_spec
from data import bundled, corpus
from leanpacs.codecs import registry, second
from leanpacs.codecs.second import SecondDecoder, known_second_decoders, second_decoders
from leanpacs.codecs.writing import WriteOptions, writable, write_frame, write_refusal
from leanpacs.dicom import uids
from leanpacs.dicom.frames import FrameSpec
from leanpacs.errors import DecodeError, UnsupportedFrame
from streams import received_streams

EXACT_UNLESS_HERE = {
    uids.JPEG_BASELINE: 2,
    uids.JPEG_EXTENDED: 2,
    uids.JPEG_XL_RECOMPRESSION: 2,
    uids.JPEG_XL: 2,
    uids.JPEG_2000: 1,
    uids.HTJ2K: 1,
}
"""Largest difference, in levels, between decoders of lossy code streams.

Inverse transforms may be calculated with other roundings: one level for a sample, and one more for the colour
conversion after it. Near-lossless JPEG-LS is exact: what decodes it is defined to the last bit.
"""

KINDS = ("noise", "stripes")
NEEDED = ("gdcm", "jpeg_ls", "micro_reader_codecs", "openjpeg", "PIL")


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@pytest.fixture(scope="module", autouse=True)
def _installed() -> None:
    for module in NEEDED:
        pytest.importorskip(module, reason=f"{module} is not installed: pip install 'leanpacs[crosscheck]'")


def compare(paths: list[Path]) -> tuple[Counter[str], Counter[str]]:
    """Equal frames, and frames that a second decoder refuses to decode, by transfer syntax and decoder."""
    equal: Counter[str] = Counter()
    refused: Counter[str] = Counter()
    for path, uid, spec, stream in received_streams(paths):
        decoders = second_decoders(uid)
        try:
            first = registry.decode_received(stream, uid, spec)
        except DecodeError:
            for decoder in decoders:
                with pytest.raises(DecodeError):
                    decoder.decode(stream, uid, spec)
            continue
        for decoder in decoders:
            name = f"{uid.removeprefix('1.2.840.10008.1.2')} {decoder.engine} {decoder.name}"
            try:
                other = decoder.decode(stream, uid, spec)
            except UnsupportedFrame:
                refused[name] += 1
                continue
            assert other.spec == first.spec, f"{path}: {name}"
            assert other.samples.dtype == first.samples.dtype
            difference = np.abs(other.samples.astype(np.int64) - first.samples.astype(np.int64)).max()
            assert difference <= EXACT_UNLESS_HERE.get(uid, 0), f"{path}: {name}"
            equal[name] += 1
    return equal, refused


def test_bundled_files_decode_alike() -> None:
    equal, refused = compare(bundled())
    assert equal.total() >= 60
    # JPEG of 12 bits is not decoded by GDCM and Pillow.
    assert set(refused) <= {".4.51 IJG libjpeg 6b python-gdcm", ".4.51 libjpeg-turbo pillow"}


@pytest.mark.corpus
def test_files_of_the_corpus_decode_alike() -> None:
    equal, refused = compare(corpus())
    assert equal.total() >= 100
    assert {name.split()[0] for name in equal} >= {
        ".4.50",
        ".4.51",
        ".4.57",
        ".4.70",
        ".4.80",
        ".4.81",
        ".4.90",
        ".4.91",
        ".4.111",
        ".4.201",
        ".4.203",
        ".5",
        ".8.1",
    }
    assert set(refused) <= {
        ".4.51 IJG libjpeg 6b python-gdcm",
        ".4.51 libjpeg-turbo pillow",
        ".4.80 CharLS python-gdcm",  # 7 bits
        ".5 pydicom pydicom",  # 1 bit
    }


SPECS = [
    make_spec(21, 34, allocated=allocated, stored=stored, samples=samples, pixel_representation=signed)
    for allocated, stored in ((8, 8), (8, 7), (8, 5), (8, 2), (16, 16), (16, 15), (16, 12), (16, 9), (16, 6), (32, 32))
    for samples in (1, 3)
    for signed in (0, 1)
]


@pytest.mark.parametrize("uid", writable())
def test_what_is_written_decodes_alike(uid: str) -> None:
    decoders = second_decoders(uid)
    compared = 0
    for spec in SPECS:
        if write_refusal(spec, uid, WriteOptions()):
            continue
        for kind in KINDS:
            samples = make_frame(spec, kind)
            written = write_frame(samples, spec, uid, WriteOptions())
            for decode in (registry.decode_received, *(decoder.decode for decoder in decoders)):
                try:
                    decoded = decode(written.stream, uid, written.spec)
                except UnsupportedFrame:
                    continue
                assert decoded.samples.dtype == samples.dtype
                np.testing.assert_array_equal(decoded.samples, samples, err_msg=f"{decode} {spec} {kind}")
                compared += 1
    lossless = [spec for spec in SPECS if write_refusal(spec, uid, WriteOptions()) is None]
    assert compared >= len(lossless) * len(KINDS)


# ------------------------------------------------------------------------------------------ what they refuse


@pytest.mark.parametrize("decoder", second._ALL, ids=lambda decoder: f"{decoder.name} {decoder.engine}")
def test_another_shape_is_refused_before_decoding(decoder: SecondDecoder) -> None:
    spec = make_spec(16, 24, allocated=8)
    for uid in decoder.transfer_syntaxes:
        stream = stream_of(uid, spec)
        if stream is None:
            continue
        first = registry.decode_received(stream, uid, spec).samples.astype(int)
        assert np.abs(decoder.decode(stream, uid, spec).samples - first).max() <= EXACT_UNLESS_HERE.get(uid, 0)
        for other in (replace(spec, rows=17), replace(spec, columns=25), replace(spec, rows=65535, columns=65535)):
            with pytest.raises(DecodeError):
                decoder.decode(stream, uid, other)
        with pytest.raises(DecodeError):
            decoder.decode(b"", uid, spec)


def stream_of(uid: str, spec: FrameSpec) -> bytes | None:
    """A code stream of a smooth frame; lossy where the transfer syntax is."""
    samples = make_frame(spec, "smooth")
    if uid in (uids.JPEG_BASELINE, uids.JPEG_EXTENDED):
        return bytes(imagecodecs.jpeg8_encode(samples, level=95))
    if uid == uids.JPEG_XL_RECOMPRESSION:
        return bytes(imagecodecs.jpegxl_encode_jpeg(imagecodecs.jpeg8_encode(samples, level=95)))
    if uid == uids.JPEG_LOSSLESS:
        return bytes(imagecodecs.jpeg8_encode(samples, lossless=True, predictor=4))
    return write_frame(samples, spec, uid, WriteOptions()).stream


def test_bits_that_gdcm_gets_wrong_are_refused() -> None:
    (gdcm,) = (d for d in known_second_decoders(uids.JPEG_LOSSLESS_SV1) if d.name == "python-gdcm")
    spec = make_spec(16, 24, allocated=8, stored=7)
    stream = bytes(imagecodecs.jpeg8_encode(make_frame(spec, "noise"), lossless=True, predictor=1, bitspersample=7))
    with pytest.raises(UnsupportedFrame, match="7 of 8"):
        gdcm.decode(stream, uids.JPEG_LOSSLESS_SV1, spec)


def test_deep_htj2k_is_refused_by_openjpeg() -> None:
    (openjpeg,) = known_second_decoders(uids.HTJ2K_LOSSLESS)
    spec = make_spec(16, 24, allocated=32, stored=20)
    stream = bytes(imagecodecs.htj2k_encode(make_frame(spec, "noise"), reversible=True))
    with pytest.raises(UnsupportedFrame, match="32 bits"):
        openjpeg.decode(stream, uids.HTJ2K_LOSSLESS, spec)


def test_what_is_not_installed_is_not_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    absent = replace(second._ALL[0], name="no-such-package", module="no_such_package")
    monkeypatch.setattr(second, "_ALL", (absent, *second._ALL))
    assert known_second_decoders(uids.RLE)[0] is absent
    assert absent not in second_decoders(uids.RLE)
    assert absent.version() == ""


def test_libraries_are_named_with_their_versions() -> None:
    for decoder in second._ALL:
        name, number, _, *engine = decoder.library().split()
        assert name == decoder.name
        assert number[0].isdigit()
        assert " ".join(engine) == decoder.engine
