"""How frames lie in native Pixel Data."""

from __future__ import annotations

import io
import struct
from dataclasses import replace
from pathlib import Path

import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.pixels.utils import get_expected_length

import data as recipes
from leanpacs.dicom.deflate import inflate
from leanpacs.dicom.frames import FrameSpec, NativeFrames, frame_spec, native_frames, word_size
from leanpacs.dicom.instance import scan
from leanpacs.dicom.layout import PixelSpan, RawValue
from leanpacs.errors import DicomError, MissingAttribute

MONO = FrameSpec(
    rows=4,
    columns=6,
    samples_per_pixel=1,
    bits_allocated=16,
    bits_stored=12,
    high_bit=11,
    pixel_representation=0,
    planar_configuration=0,
    photometric_interpretation="MONOCHROME2",
    number_of_frames=1,
)


def span(length: int, tag: int = 0x7FE00010, *, offset: int = 100, encapsulated: bool = False) -> PixelSpan:
    return PixelSpan(tag, "OW", offset - 12, offset, offset + length, encapsulated)


def us(value: int, *, little_endian: bool = True, vr: str | None = "US") -> RawValue:
    return RawValue(vr, struct.pack("<H" if little_endian else ">H", value), little_endian)


def attributes(*, little_endian: bool = True, vr: str | None = "US", **other: RawValue) -> dict[int, RawValue]:
    values = {0x00280002: 1, 0x00280010: 4, 0x00280011: 6, 0x00280100: 16, 0x00280101: 12, 0x00280102: 11}
    elements = {tag: us(value, little_endian=little_endian, vr=vr) for tag, value in values.items()}
    elements[0x00280103] = us(1, little_endian=little_endian, vr=vr)
    elements[0x00280004] = RawValue(vr and "CS", b"MONOCHROME2 ")
    elements[0x00280008] = RawValue(vr and "IS", b"3 ")
    return elements | {int(tag.removeprefix("t"), 16): value for tag, value in other.items()}


@pytest.mark.parametrize(("little_endian", "vr"), [(True, "US"), (False, "US"), (True, None)])
def test_attributes_are_read_in_every_encoding(little_endian: bool, vr: str | None) -> None:
    spec = frame_spec(attributes(little_endian=little_endian, vr=vr), span(0))

    assert spec == replace(MONO, pixel_representation=1, number_of_frames=3)


def test_attributes_that_may_be_absent() -> None:
    elements = {tag: value for tag, value in attributes().items() if tag in {0x00280010, 0x00280011, 0x00280100}}

    assert frame_spec(elements, span(0)) == replace(MONO, bits_stored=16, high_bit=15, photometric_interpretation="")


@pytest.mark.parametrize(
    ("tag", "keyword"), [(0x00280010, "Rows"), (0x00280011, "Columns"), (0x00280100, "BitsAllocated")]
)
def test_attributes_that_may_not_be_absent(tag: int, keyword: str) -> None:
    for elements in (attributes(), attributes() | {tag: RawValue("US", b"")}):
        if elements[tag].value:
            del elements[tag]
        with pytest.raises(MissingAttribute) as caught:
            frame_spec(elements, span(0))
        assert caught.value.keyword == keyword


def test_numbers_in_unusual_vrs() -> None:
    odd = attributes(
        t00280010=RawValue("UL", struct.pack("<L", 70000)),
        t00280011=RawValue("IS", b" 12"),
        t00280100=RawValue("SS", struct.pack("<h", 16)),
        t00280101=RawValue("UN", struct.pack("<H", 12)),
        t00280008=RawValue("IS", b"2\\3"),
    )
    spec = frame_spec(odd, span(0))

    assert (spec.rows, spec.columns, spec.bits_allocated, spec.bits_stored) == (70000, 12, 16, 12)
    assert spec.number_of_frames == 2


@pytest.mark.parametrize(
    ("attribute", "reason"),
    [
        ({"t00280010": us(0)}, "0 rows"),
        ({"t00280002": us(0)}, "0 samples"),
        ({"t00280100": us(0)}, "Bits Allocated is 0"),
        ({"t00280100": us(128)}, "Bits Allocated is 128"),
        ({"t00280101": us(17)}, "Bits Stored is 17 of 16"),
        ({"t00280101": us(0)}, "Bits Stored is 0"),
        ({"t00280102": us(16)}, "High Bit is 16"),
        ({"t00280103": us(2)}, "Pixel Representation"),
        ({"t00280006": us(7)}, "Planar Configuration"),
        ({"t00280008": RawValue("IS", b"-3")}, "NumberOfFrames"),
        ({"t00280008": RawValue("IS", b"1e99")}, "NumberOfFrames"),
        ({"t00280008": RawValue("IS", b"9" * 5000)}, "NumberOfFrames"),
        ({"t00280010": RawValue("US", b"\1")}, "Rows"),
    ],
)
def test_values_that_no_image_can_have(attribute: dict[str, RawValue], reason: str) -> None:
    with pytest.raises(DicomError, match=reason):
        frame_spec(attributes(**attribute), span(0))


@given(st.dictionaries(st.sampled_from(sorted(attributes())), st.binary(max_size=12)), st.booleans())
def test_noise_gives_a_spec_or_a_dicom_error(noise: dict[int, bytes], little_endian: bool) -> None:
    elements = attributes() | {tag: RawValue(None, value, little_endian) for tag, value in noise.items()}
    try:
        spec = frame_spec(elements, span(96))
        native_frames(span(96), spec)
    except DicomError as error:
        assert str(error)  # noqa: PT017 -- noise may be right


@pytest.mark.parametrize(("tag", "width"), [(0x7FE00008, 32), (0x7FE00009, 64)])
def test_float_pixel_data(tag: int, width: int) -> None:
    elements = {tag: value for tag, value in attributes().items() if tag in {0x00280010, 0x00280011}}

    spec = frame_spec(elements, span(0, tag))

    assert (spec.kind, spec.bits_allocated, spec.bits_stored) == ("float", width, width)
    assert spec.frame_bytes == 4 * 6 * width // 8
    with pytest.raises(DicomError, match="Bits Allocated is 16"):
        frame_spec(attributes(), span(0, tag))


@pytest.mark.parametrize(
    ("change", "bits"),
    [
        ({}, 384),
        ({"bits_allocated": 1}, 24),
        ({"bits_allocated": 8}, 192),
        ({"bits_allocated": 32}, 768),
        ({"bits_allocated": 64}, 1536),
        ({"bits_allocated": 12}, 288),
        ({"samples_per_pixel": 3, "bits_allocated": 8}, 576),
        ({"samples_per_pixel": 3, "bits_allocated": 8, "planar_configuration": 1}, 576),
        ({"samples_per_pixel": 3, "bits_allocated": 8, "photometric_interpretation": "YBR_FULL_422"}, 384),
        ({"samples_per_pixel": 1, "bits_allocated": 8, "photometric_interpretation": "YBR_FULL_422"}, 192),
    ],
)
def test_bits_in_a_frame(change: dict[str, object], bits: int) -> None:
    spec = replace(MONO, **change)

    assert spec.frame_bits == bits
    assert spec.frame_bytes == bits // 8


def test_a_frame_need_not_fill_its_last_byte() -> None:
    spec = replace(MONO, rows=3, columns=3, bits_allocated=1, bits_stored=1, high_bit=0, number_of_frames=5)

    assert spec.frame_bytes is None
    assert native_frames(span(6), spec) == NativeFrames(100, 9, 5, 0)
    assert native_frames(span(6), spec).frame_bytes is None


def test_422_that_holds_every_sample_all_the_same() -> None:
    colour = {"t00280002": us(3), "t00280100": us(8), "t00280101": us(8), "t00280102": us(7)}
    elements = attributes(**colour, t00280004=RawValue("CS", b"YBR_FULL_422"))

    for length, is_full in ((144, False), (145, False), (216, True), (300, True)):
        spec = frame_spec(elements, span(length))
        assert (spec.full_chroma, spec.is_subsampled) == (is_full, not is_full)
        assert spec.frame_bytes == (72 if is_full else 48)
    assert not frame_spec(elements, span(1000, encapsulated=True)).full_chroma


def test_trailing_bytes_are_told() -> None:
    spec = replace(MONO, number_of_frames=2)

    assert native_frames(span(96), spec) == NativeFrames(100, 384, 2, 0)
    assert native_frames(span(97), spec).trailing == 1
    assert native_frames(span(1000), spec).trailing == 904


def test_a_value_that_is_too_short_is_refused_with_a_reason() -> None:
    with pytest.raises(DicomError, match="Pixel Data holds 95 bytes, 2 frames need 96"):
        native_frames(span(95), replace(MONO, number_of_frames=2))
    with pytest.raises(DicomError, match="Pixel Data holds 0 bytes, 1 frame needs 48"):
        native_frames(span(0), MONO)
    with pytest.raises(DicomError, match="encapsulated"):
        native_frames(span(96, encapsulated=True), MONO)


@given(st.integers(1, 40), st.integers(1, 9), st.binary(min_size=100, max_size=100))
def test_frames_that_are_read_one_by_one_are_all_bits_in_order(bits: int, count: int, data: bytes) -> None:
    frames = NativeFrames(10, bits, count, 0)
    expected = int.from_bytes(data[10:], "little")

    together = 0
    for index in range(count):
        frame = frames.read(io.BytesIO(data), index)
        assert len(frame) == -(-bits // 8)
        together |= int.from_bytes(frame, "little") << index * bits

    assert together == expected & (1 << bits * count) - 1


def test_a_frame_that_is_not_there() -> None:
    frames = native_frames(span(96, offset=0), replace(MONO, number_of_frames=2))

    with pytest.raises(IndexError):
        frames.read(io.BytesIO(bytes(96)), 2)
    with pytest.raises(IndexError):
        frames.read(io.BytesIO(bytes(96)), -1)
    with pytest.raises(DicomError, match="frame 2 ends at byte 96"):
        frames.read(io.BytesIO(bytes(95)), 1)


@pytest.mark.parametrize(
    ("vr", "bits", "size"),
    [
        *(("OB", 8, 1), ("OB", 16, 1), ("OW", 1, 2), ("OW", 8, 2), ("OW", 12, 2), ("OW", 16, 2)),
        *(("OW", 32, 4), ("OL", 32, 4), ("OV", 64, 8), ("OF", 32, 4), ("OD", 64, 8)),
    ],
)
def test_words_that_big_endian_reverses(vr: str, bits: int, size: int) -> None:
    assert word_size(vr, replace(MONO, bits_allocated=bits)) == size


def check_native_file(path: Path) -> bool:
    """Compare with pydicom's idea of the length of Pixel Data; whether there was any."""
    with path.open("rb") as reader:
        try:
            layout = scan(reader)
            assert layout.pixel is not None
            if layout.problem or layout.pixel.encapsulated:
                return False
            spec = frame_spec(layout.elements, layout.pixel)
        except (DicomError, AssertionError):
            return False
        frames = native_frames(layout.pixel, spec)
        assert frames.trailing < 2 or spec.number_of_frames == 1, path
        reader.seek(0)
        ds = pydicom.dcmread(reader, force=True)
        if not spec.full_chroma:
            assert -(-frames.frame_bits * frames.count // 8) == get_expected_length(ds), path
        if layout.deflated:
            with inflate(reader, layout.preface_length) as inflated:
                assert frames.read(inflated, frames.count - 1)
        else:
            assert frames.read(reader, frames.count - 1)
    return True


def test_native_frames_of_the_bundled_files() -> None:
    assert sum(check_native_file(path) for path in recipes.bundled()) > 30


@pytest.mark.corpus
def test_native_frames_of_the_corpus() -> None:
    assert sum(check_native_file(path) for path in recipes.corpus()) > 80
