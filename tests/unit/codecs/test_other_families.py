"""JPEG, JPEG-LS, JPEG 2000, RLE and the codecs of bytes: what is theirs alone, and second decoders."""

from __future__ import annotations

import zlib
from typing import Any

import imagecodecs
import jpeg_ls
import numpy as np
import pytest
import zstandard
from numpy.typing import NDArray
from pydicom.pixels.decoders.rle import _rle_decode_frame

from contract.codec_suite import KINDS, make_frame, make_spec
from leanpacs.codecs import bytewise, jpeg, jpeg2000, jpegls, rle
from leanpacs.codecs.codec import EncodeOptions
from leanpacs.codecs.registry import by_name
from leanpacs.dicom.frames import FrameSpec
from leanpacs.errors import DecodeError, EncodeError, UnsupportedFrame

GREY = [
    make_spec(21, 34, allocated=allocated, stored=stored, pixel_representation=signed)
    for allocated, stored in ((8, 8), (8, 5), (16, 16), (16, 12), (16, 7))
    for signed in (0, 1)
]
COLOUR = [make_spec(21, 34, allocated=allocated, samples=3) for allocated in (8, 16)]

# ---------------------------------------------------------------------------------------- second decoders


@pytest.mark.parametrize("spec", GREY + COLOUR)
def test_pyjpegls_reads_our_jpegls(spec: FrameSpec) -> None:
    for kind in KINDS:
        samples = make_frame(spec, kind)
        stream = by_name("jpegls").encode(samples, spec, EncodeOptions(1, spec.bits_stored))
        buffer, info = jpeg_ls.decode_pixel_data(stream)
        values = np.frombuffer(buffer, f"u{-(-info['bits_per_sample'] // 8)}").reshape(samples.shape)
        offset = 1 << spec.bits_stored - 1 if spec.pixel_representation else 0
        np.testing.assert_array_equal(values, samples.astype(np.int64) + offset)


@pytest.mark.parametrize("codec", ["jpeg2000", "htj2k"])
@pytest.mark.parametrize("spec", GREY + COLOUR)
def test_openjpeg_reads_our_jpeg2000(codec: str, spec: FrameSpec) -> None:
    openjpeg = pytest.importorskip("openjpeg", reason="openjpeg is not installed: pip install 'leanpacs[crosscheck]'")
    for kind in KINDS:
        samples = make_frame(spec, kind)
        stream = by_name(codec).encode(samples, spec, EncodeOptions(1, spec.bits_stored))
        np.testing.assert_array_equal(openjpeg.decode(stream), samples)


@pytest.mark.parametrize("spec", [*GREY, *COLOUR, make_spec(9, 9, allocated=32, samples=3)])
def test_pydicom_reads_our_rle(spec: FrameSpec) -> None:
    kinds = ("noise", "constant", "sparse") if spec.bits_allocated == 32 else KINDS
    for kind in kinds:
        samples = make_frame(spec, kind)
        stream = by_name("rle").encode(samples, spec, EncodeOptions(1, spec.bits_stored))
        frame = _rle_decode_frame(stream, spec.rows, spec.columns, spec.samples_per_pixel, spec.bits_allocated)
        planes = np.frombuffer(frame, samples.dtype).reshape(-1, spec.rows, spec.columns)
        np.testing.assert_array_equal(np.moveaxis(planes, 0, -1).reshape(samples.shape), samples)


# ---------------------------------------------------------------------------------------- JPEG


@pytest.mark.parametrize("photometric", ["RGB", "YBR_FULL_422", "YBR_FULL"])
@pytest.mark.parametrize("space", ["RGB", "YCBCR"])
def test_jpeg_colour_becomes_rgb(space: str, photometric: str) -> None:
    samples = make_frame(make_spec(32, 40, allocated=8, samples=3), "constant", 3)
    stream = imagecodecs.jpeg8_encode(samples, level=100, outcolorspace=space)
    spec = make_spec(32, 40, allocated=8, samples=3, photometric_interpretation=photometric)
    decoded = jpeg.decode_received(stream, spec)
    assert decoded.photometric_interpretation == "RGB"
    assert np.abs(decoded.samples.astype(int) - samples).max() <= 3


@pytest.mark.parametrize("photometric", ["RGB", "YBR_FULL"])
def test_photometric_interpretation_decides_where_jpeg_is_silent(photometric: str) -> None:
    samples = make_frame(make_spec(32, 40, allocated=8, samples=3), "constant", 3)
    stream = bytearray(imagecodecs.jpeg8_encode(samples, level=100, outcolorspace="YCBCR"))
    assert stream[6:11] == b"JFIF\0"
    stream[6:11] = b"XXXX\0"
    spec = make_spec(32, 40, allocated=8, samples=3, photometric_interpretation=photometric)
    decoded = jpeg.decode_received(bytes(stream), spec).samples.astype(int)
    assert (np.abs(decoded - samples).max() <= 3) == (photometric != "RGB")


def test_jpeg_of_12_bits() -> None:
    spec = make_spec(24, 32, stored=12)
    samples = make_frame(spec, "smooth")
    stream = imagecodecs.jpeg8_encode(samples, level=100, bitspersample=12)
    decoded = jpeg.decode_received(stream, spec).samples
    assert decoded.dtype == np.uint16
    assert np.abs(decoded.astype(int) - samples).max() < 20


@pytest.mark.parametrize("signed", [0, 1])
@pytest.mark.parametrize("stored", [8, 12, 16])
def test_lossless_jpeg(stored: int, signed: int) -> None:
    spec = make_spec(24, 32, allocated=16 if stored > 8 else 8, stored=stored, pixel_representation=signed)
    samples = make_frame(spec, "smooth")
    bits = samples.view(f"u{samples.itemsize}") & ((1 << stored) - 1)
    stream = imagecodecs.jpeg8_encode(bits, lossless=True, predictor=1, bitspersample=stored)
    np.testing.assert_array_equal(jpeg.decode_received(stream, spec).samples, samples)


def test_lossless_jpeg_colour_is_left_as_it_is() -> None:
    spec = make_spec(24, 32, allocated=8, samples=3, photometric_interpretation="YBR_FULL")
    samples = make_frame(spec, "noise")
    stream = imagecodecs.jpeg8_encode(samples, lossless=True, predictor=1, colorspace="RGB", outcolorspace="RGB")
    decoded = jpeg.decode_received(stream, spec)
    np.testing.assert_array_equal(decoded.samples, samples)
    assert decoded.photometric_interpretation == "YBR_FULL"


def test_jpeg_does_not_encode() -> None:
    spec = make_spec(4, 4, allocated=8)
    codec = by_name("jpeg")
    assert codec.refusal(spec)
    with pytest.raises(UnsupportedFrame):
        codec.encode(make_frame(spec, "noise"), spec, EncodeOptions(1, 8))
    stream = imagecodecs.jpeg8_encode(make_frame(spec, "constant"))
    assert codec.decode(stream, spec, EncodeOptions(1, 8)).shape == (4, 4)


# ---------------------------------------------------------------------------------------- JPEG-LS


@pytest.mark.parametrize("stored", [7, 8, 12, 15, 16])
def test_received_jpegls_is_twos_complement(stored: int) -> None:
    spec = make_spec(16, 16, allocated=16 if stored > 8 else 8, stored=stored, pixel_representation=1)
    samples = make_frame(spec, "smooth")
    bits = samples.view(f"u{samples.itemsize}") & ((1 << stored) - 1)
    stream = jpeg_ls.encode_buffer(bits.tobytes(), rows=16, columns=16, samples_per_pixel=1, bits_stored=stored)
    np.testing.assert_array_equal(jpegls.decode_received(bytes(stream), spec).samples, samples)


@pytest.mark.parametrize("interleave", [0, 1, 2])
def test_received_jpegls_colour_of_each_interleave(interleave: int) -> None:
    spec = make_spec(6, 7, allocated=8, samples=3)
    samples = make_frame(spec, "smooth")
    ordered = samples if interleave else np.moveaxis(samples, -1, 0)
    stream = jpeg_ls.encode_buffer(
        ordered.tobytes(), rows=6, columns=7, samples_per_pixel=3, bits_stored=8, interleave_mode=interleave
    )
    np.testing.assert_array_equal(jpegls.decode_received(bytes(stream), spec).samples, samples)


def test_jpeg_is_not_taken_for_jpegls() -> None:
    spec = make_spec(8, 8, allocated=8)
    with pytest.raises(DecodeError, match="JPEG, not JPEG-LS"):
        jpegls.decode_received(imagecodecs.jpeg8_encode(make_frame(spec, "noise")), spec)


def test_a_cut_jpegls_stream_raises() -> None:
    spec, options = make_spec(128, 128), EncodeOptions(1, 16)
    stream = by_name("jpegls").encode(make_frame(spec, "smooth"), spec, options)
    with pytest.raises(DecodeError):
        by_name("jpegls").decode(stream[: len(stream) // 2], spec, options)


def test_padding_behind_jpegls_does_not_matter() -> None:
    spec = make_spec(8, 8)
    samples = make_frame(spec, "smooth")
    stream = by_name("jpegls").encode(samples, spec, EncodeOptions(1, 16))
    np.testing.assert_array_equal(jpegls.decode_received(stream + b"\0", spec).samples, samples)


# ---------------------------------------------------------------------------------------- JPEG 2000


@pytest.mark.parametrize("codec", ["jpeg2000", "htj2k"])
def test_a_sign_that_contradicts_pixel_representation(codec: str) -> None:
    unsigned, signed = make_spec(8, 8), make_spec(8, 8, pixel_representation=1)
    samples = make_frame(signed, "smooth")
    stream = by_name(codec).encode(samples.view(np.uint16), unsigned, EncodeOptions(1, 16))
    np.testing.assert_array_equal(jpeg2000.decode_received(codec, stream, signed).samples, samples)
    stream = by_name(codec).encode(samples, signed, EncodeOptions(1, 16))
    np.testing.assert_array_equal(jpeg2000.decode_received(codec, stream, unsigned).samples, samples.view(np.uint16))


@pytest.mark.parametrize(("photometric", "expected"), [("YBR_RCT", "RGB"), ("RGB", "RGB"), ("YBR_FULL", "YBR_FULL")])
def test_component_transforms_are_undone(photometric: str, expected: str) -> None:
    spec = make_spec(8, 8, allocated=8, samples=3, photometric_interpretation=photometric)
    samples = make_frame(spec, "smooth")
    stream = imagecodecs.jpeg2k_encode(samples, codecformat="j2k", reversible=True, mct=photometric == "YBR_RCT")
    decoded = jpeg2000.decode_received("jpeg2000", stream, spec)
    assert decoded.photometric_interpretation == expected
    np.testing.assert_array_equal(decoded.samples, samples)


def test_one_bit_jpeg2000() -> None:
    spec = make_spec(30, 30, allocated=1)
    samples = make_frame(make_spec(30, 30, allocated=8, stored=1), "noise")
    stream = imagecodecs.jpeg2k_encode(samples, codecformat="j2k", reversible=True, bitspersample=4)
    decoded = jpeg2000.decode_received("jpeg2000", stream, spec)
    np.testing.assert_array_equal(decoded.samples, samples)
    assert decoded.spec.bits_allocated == 1


@pytest.mark.parametrize("stored", [1, 2])
def test_noise_of_few_bits_in_jpeg2000(stored: int) -> None:
    spec, options = make_spec(250, 120, allocated=8, stored=stored, samples=3), EncodeOptions(1, stored)
    samples = make_frame(spec, "noise")
    codec = by_name("jpeg2000")
    np.testing.assert_array_equal(codec.decode(codec.encode(samples, spec, options), spec, options), samples)


# ---------------------------------------------------------------------------------------- RLE


def rle_stream(*segments: bytes) -> bytes:
    """An RLE frame of these segments."""
    offsets = [64]
    for segment in segments[:-1]:
        offsets.append(offsets[-1] + len(segment))
    header = [len(segments), *offsets, *[0] * (15 - len(offsets))]
    return np.array(header, "<u4").tobytes() + b"".join(segments)


@pytest.mark.parametrize(
    ("segment", "expected"),
    [
        (b"\x03abcd", b"abcd"),
        (b"\xfda", b"aaaa"),
        (b"\x80\x80\x03abcd", b"abcd"),  # -128 does nothing
        (b"\x03abcd\0", b"abcd"),  # padding to even length
        (b"\x05abcdef", b"abcd"),  # beyond the frame
        (b"\xf0a", b"aaaa"),
        (b"\x05abcd", b"abcd"),  # a literal run that is cut short
        (b"\x81" + b"a" + b"\x81b" * 9, b"aaaa"),  # far beyond the frame
    ],
)
def test_segments_that_writers_make(segment: bytes, expected: bytes) -> None:
    decoded = rle.decode_received(rle_stream(segment), make_spec(2, 2, allocated=8))
    assert decoded.samples.tobytes() == expected


@pytest.mark.parametrize(
    "stream",
    [
        rle_stream(b"\x02abc"),
        rle_stream(b"\x03abcd", b"\x03abcd"),
        rle_stream(b""),
        rle_stream(b"\x03abcd")[:60],
        np.array([1, 9999, *[0] * 14], "<u4").tobytes() + b"\x03abcd",
        np.array([1, 12, *[0] * 14], "<u4").tobytes() + b"\x03abcd",
        np.array([2**31, *[64] * 15], "<u4").tobytes() + b"\x03abcd",
    ],
    ids=["short", "two segments", "empty", "no header", "offset beyond", "offset in the header", "count"],
)
def test_rle_that_makes_no_sense(stream: bytes) -> None:
    with pytest.raises(DecodeError):
        rle.decode_received(stream, make_spec(2, 2, allocated=8))


@pytest.mark.parametrize("shape", [(16, 16), (15, 17)])
def test_one_bit_rle_packed_or_not(shape: tuple[int, int]) -> None:
    spec = make_spec(*shape, allocated=1)
    samples: NDArray[Any] = np.random.default_rng(1).integers(0, 2, shape).astype(np.uint8)
    packed = imagecodecs.packbits_encode(np.packbits(samples, bitorder="little"))
    np.testing.assert_array_equal(rle.decode_received(rle_stream(packed), spec).samples, samples)
    loose = imagecodecs.packbits_encode(samples.ravel())
    np.testing.assert_array_equal(rle.decode_received(rle_stream(loose), spec).samples, samples)


def test_rows_are_coded_apart_and_segments_are_even() -> None:
    spec = make_spec(3, 5, allocated=8)
    stream = by_name("rle").encode(np.full((3, 5), 7, np.uint8), spec, EncodeOptions(1, 8))
    assert stream[64:] == b"\xfc\x07" * 3
    stream = by_name("rle").encode(np.arange(15, dtype=np.uint8).reshape(3, 5), spec, EncodeOptions(1, 8))
    assert len(stream) == 64 + 18


def test_too_many_segments_for_rle() -> None:
    assert by_name("rle").refusal(make_spec(2, 2, allocated=32, samples=4))


# ---------------------------------------------------------------------------------------- bytes


def test_zstd_is_not_fooled_by_a_declared_size() -> None:
    spec = make_spec(100, 100, allocated=8)
    bomb = zstandard.ZstdCompressor().compress(bytes(1 << 24))
    unsized = zstandard.ZstdCompressor(write_content_size=False).compress(bytes(10_000))
    for stream in (bomb, unsized):
        with pytest.raises(DecodeError):
            bytewise.Zstd().decode_bytes(stream, spec)


def test_deflate_bombs_are_bounded() -> None:
    deflate = zlib.compressobj(wbits=-15)
    bomb = deflate.compress(bytes(1 << 24)) + deflate.flush()
    with pytest.raises(DecodeError):
        bytewise.DeflatedFrame().decode_bytes(bomb, make_spec(10, 10))


def test_levels_that_zstd_does_not_have() -> None:
    with pytest.raises(EncodeError):
        bytewise.Zstd().encode_bytes(b"abc", make_spec(1, 3, allocated=8), EncodeOptions(99, 8))


def test_odd_frames_may_be_padded() -> None:
    spec = make_spec(1, 3, allocated=8)
    assert bytewise.Raw().decode_bytes(b"abc\0", spec) == b"abc"
    with pytest.raises(DecodeError):
        bytewise.Raw().decode_bytes(b"abc\0\0", spec)
    with pytest.raises(DecodeError):
        bytewise.Raw().decode_bytes(b"abcd\0", make_spec(1, 4, allocated=8))
