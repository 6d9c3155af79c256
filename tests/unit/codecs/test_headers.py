"""Shapes are read from code streams before anything is decoded."""

from __future__ import annotations

import struct

import imagecodecs
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contract.codec_suite import make_frame, make_spec
from leanpacs.codecs.codec import EncodeOptions
from leanpacs.codecs.headers import (
    StreamShape,
    boxes,
    jpeg2000_header,
    jpeg_header,
    require_sound_main_header,
)
from leanpacs.codecs.jxlheader import jpegxl_header
from leanpacs.codecs.registry import by_name
from leanpacs.errors import DecodeError

sides = st.one_of(st.integers(1, 40), st.sampled_from([255, 256, 257, 513, 600]))


@settings(max_examples=40)
@given(sides, sides, st.sampled_from([1, 3]), st.sampled_from([8, 16]), st.data())
def test_shapes_are_what_was_encoded(
    rows: int, columns: int, samples: int, allocated: int, data: st.DataObject
) -> None:
    stored = data.draw(st.integers(1, allocated))
    spec = make_spec(rows, columns, allocated=allocated, stored=stored, samples=samples)
    frame, options = make_frame(spec, "smooth"), EncodeOptions(1, stored)
    shape = jpegxl_header("jxl", by_name("jpegxl").encode(frame, spec, options)).shape
    assert shape == StreamShape(rows, columns, samples, stored)
    shape = jpeg2000_header("j2k", by_name("htj2k").encode(frame, spec, options)).shape
    assert shape == StreamShape(rows, columns, samples, stored)
    container = 8 if stored <= 8 else 16
    shape = jpeg_header("jls", by_name("jpegls").encode(frame, spec, options)).shape
    is_tiny = frame.nbytes < 256 or stored == 1  # pyjpegls has no room for those
    assert shape in {
        StreamShape(rows, columns, samples, bits) for bits in ({stored, container} if is_tiny else {stored})
    }


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.uint16, np.int16])
def test_sign_of_jpeg2000(dtype: type) -> None:
    stream = imagecodecs.jpeg2k_encode(np.zeros((4, 5), dtype), codecformat="j2k", reversible=True)
    header = jpeg2000_header("j2k", stream)
    assert header.is_signed == (np.dtype(dtype).kind == "i")
    assert header.shape == StreamShape(4, 5, 1, 8 * np.dtype(dtype).itemsize)


def test_jpeg2000_in_a_file() -> None:
    stream = imagecodecs.jpeg2k_encode(np.zeros((4, 5, 3), np.uint8), codecformat="jp2", reversible=True)
    assert stream[4:8] == b"jP  "
    assert jpeg2000_header("j2k", stream).shape == StreamShape(4, 5, 3, 8)


def test_jpegxl_in_a_container() -> None:
    samples = np.zeros((9, 300), np.uint16)
    stream = imagecodecs.jpegxl_encode(samples, lossless=True, bitspersample=11, usecontainer=True)
    assert stream[4:8] == b"JXL "
    assert jpegxl_header("jxl", stream).shape == StreamShape(9, 300, 1, 11)
    (start, end) = next((start, end) for kind, start, end in boxes("jxl", stream) if kind == b"jxlc")
    pieces = [stream[start:end][:10], stream[start:end][10:]]
    parts = [struct.pack(">I4sI", 12 + len(piece), b"jxlp", number) + piece for number, piece in enumerate(pieces)]
    assert jpegxl_header("jxl", stream[:32] + b"".join(parts)).shape == StreamShape(9, 300, 1, 11)


def test_jpeg_with_a_container_of_its_own() -> None:
    jpeg = imagecodecs.jpeg8_encode(np.zeros((16, 24, 3), np.uint8))
    assert jpegxl_header("jxl", imagecodecs.jpegxl_encode_jpeg(jpeg)).shape == StreamShape(16, 24, 3, 8)


@pytest.mark.parametrize(
    ("stream", "said"),
    [
        (imagecodecs.jpegxl_encode(np.zeros((2, 5, 6, 3), np.uint8), lossless=True), "animation"),
        (imagecodecs.jpegxl_encode(np.zeros((5, 6, 4), np.uint8), lossless=True), "extra channels"),
        (imagecodecs.jpegxl_encode(np.zeros((5, 6), np.float32), lossless=True), "floating point"),
    ],
)
def test_other_kinds_of_jpegxl_are_refused(stream: bytes, said: str) -> None:
    with pytest.raises(DecodeError, match=said):
        jpegxl_header("jxl", stream)


def test_every_cut_within_the_header_is_refused() -> None:
    jxl = imagecodecs.jpegxl_encode(np.zeros((300, 700), np.uint16), lossless=True, bitspersample=13)
    j2k = imagecodecs.jpeg2k_encode(np.zeros((30, 70), np.uint16), codecformat="j2k", reversible=True)
    jls = imagecodecs.jpegls_encode(np.zeros((30, 70), np.uint16))
    for length in range(8):
        with pytest.raises(DecodeError):
            jpegxl_header("jxl", jxl[:length])
    for length in range(45):
        with pytest.raises(DecodeError):
            jpeg2000_header("j2k", j2k[:length])
    for length in range(jls.index(b"\xff\xf7") + 10):
        with pytest.raises(DecodeError):
            jpeg_header("jls", jls[:length])


@pytest.mark.parametrize("codec", ["jpegxl", "htj2k", "jpeg2000", "jpegls", "jpeg"])
def test_huge_sizes_are_refused_before_anything_is_allocated(codec: str) -> None:
    if codec == "jpegxl":
        # 2**30 rows and columns, 16 bits
        bits = 0x0AFF | 0 << 16 | 3 << 17 | (2**30 - 1) << 19 | 3 << 52 | (2**30 - 1) << 54 | 0b1111 << 87
        stream = bits.to_bytes(14, "little") + bytes(40)
    elif codec in ("htj2k", "jpeg2000"):
        small = bytearray(imagecodecs.htj2k_encode(np.zeros((8, 8), np.uint16)))
        small[8:16] = small[24:32] = b"\x7f\xff\xff\xff" * 2
        stream = bytes(small)
    else:
        process = b"\xff\xf7" if codec == "jpegls" else b"\xff\xc0"
        stream = b"\xff\xd8" + process + b"\0\x0b\x08\xff\xff\xff\xff\x01\x01\x11\0" + b"\xff\xda\0\0"
    with pytest.raises(DecodeError, match="the code stream has rows"):
        by_name(codec).decode(stream, make_spec(8, 8), EncodeOptions(1, 16))


def test_tiles_without_number_are_refused() -> None:
    small = bytearray(imagecodecs.htj2k_encode(np.zeros((1000, 1000), np.uint8)))
    small[24:32] = b"\0\0\0\x01" * 2
    with pytest.raises(DecodeError, match="more tiles"):
        jpeg2000_header("j2k", bytes(small))


def test_components_that_differ_are_refused() -> None:
    stream = bytearray(imagecodecs.jpeg2k_encode(np.zeros((8, 8, 3), np.uint8), codecformat="j2k", reversible=True))
    stream[4 + 38 + 4] = 2  # the second component at half the columns
    with pytest.raises(DecodeError, match="subsampled"):
        jpeg2000_header("j2k", bytes(stream))


def test_main_headers_that_crash_openjph_are_refused() -> None:
    stream = imagecodecs.htj2k_encode(np.zeros((8, 8), np.uint8))
    require_sound_main_header("htj2k", stream)
    comment = stream.index(b"\xff\x64")
    with pytest.raises(DecodeError, match="ff74"):
        require_sound_main_header("htj2k", stream[:comment] + b"\xff\x74" + stream[comment + 2 :])
    style = stream.index(b"\xff\x52")
    assert stream[style + 8] == 0
    with pytest.raises(DecodeError, match="component transform"):
        require_sound_main_header("htj2k", stream[: style + 8] + b"\x01" + stream[style + 9 :])
    with pytest.raises(DecodeError):
        require_sound_main_header("htj2k", stream[: stream.index(b"\xff\x90")])


def test_what_tells_colour_spaces_of_jpeg() -> None:
    samples = np.zeros((8, 8, 3), np.uint8)
    jfif = jpeg_header("jpeg", imagecodecs.jpeg8_encode(samples))
    assert (jfif.has_jfif, jfif.adobe_transform) == (True, None)
    adobe = jpeg_header("jpeg", imagecodecs.jpeg8_encode(samples, colorspace="RGB", outcolorspace="RGB"))
    assert (adobe.has_jfif, adobe.adobe_transform, adobe.component_ids) == (False, 0, (82, 71, 66))


def test_boxes_that_are_too_long_are_refused() -> None:
    with pytest.raises(DecodeError):
        boxes("jxl", struct.pack(">I4s", 20, b"jxlc") + bytes(4))
    assert boxes("jxl", struct.pack(">I4sQ", 1, b"jxlc", 20) + bytes(4)) == [(b"jxlc", 16, 20)]
    assert boxes("jxl", struct.pack(">I4s", 0, b"jxlc") + bytes(4)) == [(b"jxlc", 8, 12)]
