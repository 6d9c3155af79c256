"""The matrix of transfer syntaxes says what is so."""

from __future__ import annotations

import json
import zlib
from dataclasses import replace

import imagecodecs
import jpeg_ls
import numpy as np
import pytest
from typer.testing import CliRunner

from contract.codec_suite import make_frame, make_spec
from leanpacs.cli.main import app
from leanpacs.codecs import registry
from leanpacs.codecs.codec import EncodeOptions
from leanpacs.codecs.matrix import MatrixRow, matrix
from leanpacs.codecs.rle import Rle
from leanpacs.codecs.second import known_second_decoders
from leanpacs.codecs.writing import writable
from leanpacs.dicom import uids
from leanpacs.dicom.frames import FrameSpec
from leanpacs.errors import UnsupportedFrame

PREFIX = "1.2.840.10008.1.2"


def by_uid() -> dict[str, MatrixRow]:
    return {row.uid: row for row in matrix()}


def test_every_transfer_syntax_of_still_images_has_a_row() -> None:
    rows = by_uid()
    stills = {
        uid for uid, known in uids.TRANSFER_SYNTAXES.items() if known.encapsulated and "video" not in known.media_type
    }
    assert set(rows) == stills | {uids.IMPLICIT_LE, uids.EXPLICIT_LE, uids.EXPLICIT_BE, uids.DEFLATED_LE}
    for uid in stills:
        assert bool(rows[uid].decodes) == (registry.for_transfer_syntax(uid) is not None)
        assert bool(rows[uid].encodes) == (uid in writable())
        assert bool(rows[uid].writes) == (uid in writable())
        assert rows[uid].decodes or rows[uid].note


def test_rows() -> None:
    rows = by_uid()
    near = rows[uids.JPEG_LS_NEAR_LOSSLESS]
    assert (near.decodes, near.encodes, near.writes) == ("2-16", "8, 16", ("lossless", "near"))
    assert near.engine == "CharLS"
    assert near.library.startswith("imagecodecs ")
    assert rows[uids.RLE].encodes == "8, 16, 32"
    assert rows[uids.DEFLATED_FRAME].encodes == "1, 8, 16, 32, 64, float"
    assert rows[uids.JPEG_BASELINE].decodes == "8"
    assert rows[PREFIX + ".4.66"].decodes == ""


def test_second_decoders_may_be_those_that_are_known() -> None:
    rows = {row.uid: row for row in matrix(known_second_decoders)}
    assert [second.engine for second in rows[uids.JPEG_XL].second] == ["jxl-oxide"]
    assert rows[uids.ENCAPSULATED_UNCOMPRESSED].second == ()


def test_the_command_prints_it() -> None:
    table = CliRunner().invoke(app, ["codecs"])
    assert table.exit_code == 0
    assert "JPEGXLLossless" in table.stdout
    printed = json.loads(CliRunner().invoke(app, ["codecs", "--json"]).stdout)
    assert [row["uid"] for row in printed] == [row.uid for row in matrix()]


# ------------------------------------------------------------------------------------------ bits that are promised


def require(stream: bytes, uid: str, spec: FrameSpec) -> None:
    for representation in (0, 1):
        signed = replace(spec, pixel_representation=representation)
        expected = make_frame(spec, "noise")
        if representation:
            unused = 8 * expected.dtype.itemsize - spec.bits_stored
            expected = (expected << unused).view(f"i{expected.dtype.itemsize}") >> unused
        decoded = registry.decode_received(stream, uid, signed)
        assert decoded.samples.dtype == expected.dtype
        np.testing.assert_array_equal(decoded.samples, expected)


def spec_of(bits: int, samples: int = 1) -> FrameSpec:
    allocated = 8 if bits <= 8 else 16 if bits <= 16 else 32
    return make_spec(21, 34, allocated=allocated, stored=bits, samples=samples)


@pytest.mark.parametrize("bits", range(1, 25))
def test_bits_of_jpeg2000(bits: int) -> None:
    samples = make_frame(spec_of(bits), "noise")
    stream = imagecodecs.jpeg2k_encode(samples, level=0, codecformat="j2k", reversible=True, bitspersample=max(bits, 8))
    if bits >= 8:
        for uid in (uids.JPEG_2000_LOSSLESS, uids.JPEG_2000, uids.JPEG_2000_MC_LOSSLESS, uids.JPEG_2000_MC):
            require(bytes(stream), uid, spec_of(bits))
    else:
        decoded = registry.decode_received(bytes(stream), uids.JPEG_2000, spec_of(bits))
        np.testing.assert_array_equal(decoded.samples, samples)


@pytest.mark.parametrize("bits", [25, 26])
def test_more_bits_of_jpeg2000_are_refused(bits: int) -> None:
    stream = imagecodecs.jpeg2k_encode(
        make_frame(spec_of(bits), "noise"), level=0, codecformat="j2k", reversible=True, bitspersample=bits
    )
    with pytest.raises(UnsupportedFrame, match=f"{bits} bits"):
        registry.decode_received(bytes(stream), uids.JPEG_2000_LOSSLESS, spec_of(bits))


@pytest.mark.parametrize("uid", [uids.HTJ2K_LOSSLESS, uids.HTJ2K_LOSSLESS_RPCL, uids.HTJ2K])
@pytest.mark.parametrize("bits", [1, 7, 8, 12, 16, 17, 24, 31, 32])
def test_bits_of_htj2k(uid: str, bits: int) -> None:
    stream = bytes(imagecodecs.htj2k_encode(make_frame(spec_of(bits), "noise"), reversible=True))
    decoded = registry.decode_received(stream, uid, spec_of(bits))
    np.testing.assert_array_equal(decoded.samples, make_frame(spec_of(bits), "noise"))


@pytest.mark.parametrize("bits", range(1, 17))
def test_bits_of_jpegxl(bits: int) -> None:
    stream = imagecodecs.jpegxl_encode(make_frame(spec_of(bits), "noise"), lossless=True, bitspersample=bits)
    require(bytes(stream), uids.JPEG_XL_LOSSLESS, spec_of(bits))


@pytest.mark.parametrize("bits", range(2, 17))
def test_bits_of_lossless_jpeg_and_jpegls(bits: int) -> None:
    spec = spec_of(bits)
    samples = make_frame(spec, "noise")
    for predictor in range(1, 8):
        stream = imagecodecs.jpeg8_encode(samples, lossless=True, predictor=predictor, bitspersample=bits)
        require(bytes(stream), uids.JPEG_LOSSLESS, spec)
    described = {"rows": spec.rows, "columns": spec.columns, "samples_per_pixel": 1, "bits_stored": bits}
    require(bytes(jpeg_ls.encode_buffer(samples.tobytes(), **described)), uids.JPEG_LS_LOSSLESS, spec)


@pytest.mark.parametrize("allocated", [8, 16, 32, 64])
@pytest.mark.parametrize("samples", [1, 2, 3, 4])
def test_bits_of_what_holds_bytes(allocated: int, samples: int) -> None:
    spec = make_spec(5, 7, allocated=allocated, samples=samples)
    frame = np.random.default_rng(1).integers(0, 256, spec.frame_bits // 8, np.uint8)
    values = frame.view(f"<u{allocated // 8}").reshape((5, 7, samples)[: 2 if samples == 1 else 3])
    deflate = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    streams = {
        uids.DEFLATED_FRAME: deflate.compress(frame.tobytes()) + deflate.flush(),
        uids.ENCAPSULATED_UNCOMPRESSED: frame.tobytes() + bytes(len(frame) % 2),
    }
    if allocated < 64 and samples * allocated <= 120:
        streams[uids.RLE] = Rle().encode(values, spec, EncodeOptions(1, allocated))
    for uid, stream in streams.items():
        decoded = registry.decode_received(stream, uid, spec).samples
        assert decoded.dtype == values.dtype
        np.testing.assert_array_equal(decoded, values)


@pytest.mark.parametrize("allocated", [32, 64])
def test_floating_point_in_what_holds_bytes(allocated: int) -> None:
    spec = replace(make_spec(5, 7, allocated=allocated), kind="float")
    values = np.random.default_rng(1).random((5, 7)).astype(f"f{allocated // 8}")
    decoded = registry.decode_received(values.tobytes(), uids.ENCAPSULATED_UNCOMPRESSED, spec).samples
    np.testing.assert_array_equal(decoded, values)
