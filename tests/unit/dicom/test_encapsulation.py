"""Fragments, offset tables, and the bytes between fragments."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.encaps import encapsulate as pydicom_encapsulate
from pydicom.encaps import generate_frames

import data as recipes
from encoded import EXPLICIT
from leanpacs.dicom.encapsulation import (
    Encapsulation,
    Fragment,
    encapsulate,
    extended_offsets,
    frame_fragments,
    frame_offsets,
    parse,
    skeleton,
    weave,
)
from leanpacs.dicom.frames import frame_spec
from leanpacs.dicom.instance import scan
from leanpacs.dicom.layout import RawValue
from leanpacs.errors import DicomError, EncapsulationError

DELIMITER = EXPLICIT.delimiter(0xFFFEE0DD)
JPEG_START, JPEG_END = b"\xff\xd8\xff\xe0", b"\xff\xd9"

frame_lists = st.lists(st.binary(max_size=60), max_size=8)


def parsed(value: bytes) -> Encapsulation:
    return parse(io.BytesIO(value), 0, len(value))


def payload(value: bytes, fragment: Fragment) -> bytes:
    return value[fragment.offset : fragment.offset + fragment.length]


def offsets_of(enc: Encapsulation, first_fragments: list[int]) -> list[int]:
    return [enc.fragments[index].offset - enc.fragments[0].offset for index in first_fragments]


@given(st.binary(max_size=16), frame_lists, st.binary(max_size=30))
def test_items_are_found_where_they_are(table: bytes, parts: list[bytes], before: bytes) -> None:
    value = EXPLICIT.fragments(parts, table)

    enc = parse(io.BytesIO(before + value), len(before), len(before) + len(value))

    assert enc.complete
    assert enc.basic_offset_table == table
    assert [payload(before + value, fragment) for fragment in enc.fragments] == parts


@given(frame_lists, st.booleans())
def test_what_is_encapsulated_is_parsed_again(frames: list[bytes], with_table: bool) -> None:
    value = b"".join(encapsulate(frames, with_table=with_table))

    enc = parsed(value)

    assert enc.complete
    assert [payload(value, fragment) for fragment in enc.fragments] == [
        frame + b"\0" * (len(frame) % 2) for frame in frames
    ]
    assert len(enc.basic_offset_table) == (4 * len(frames) if with_table else 0)
    if frames:
        assert frame_fragments(enc, len(frames)) == [[index] for index in range(len(frames))]


@given(st.lists(st.binary(min_size=1, max_size=60), min_size=1, max_size=8), st.booleans())
def test_pydicom_encapsulates_in_the_same_way(frames: list[bytes], with_table: bool) -> None:
    value = b"".join(encapsulate(iter(frames), lengths=[len(frame) for frame in frames], with_table=with_table))

    assert value == pydicom_encapsulate(frames, has_bot=with_table) + DELIMITER


@given(frame_lists)
def test_offsets_are_those_of_the_items(frames: list[bytes]) -> None:
    value = b"".join(encapsulate(frames))

    enc = parsed(value)

    assert frame_offsets(len(frame) for frame in frames) == offsets_of(enc, list(range(len(frames))))
    assert enc.basic_offset_table == struct.pack(f"<{len(frames)}L", *frame_offsets(map(len, frames)))


class Huge(bytes):
    """Says to be 3 GB long."""

    def __len__(self) -> int:
        return 3_000_000_000


def test_offsets_beyond_32_bits_are_not_written() -> None:
    parts = encapsulate([Huge(), Huge(), Huge()])

    assert next(parts) == EXPLICIT.item(b"")
    assert frame_offsets([3_000_000_000] * 3) == [0, 3_000_000_008, 6_000_000_016]


def test_without_a_table_nothing_is_collected() -> None:
    taken = []

    def frames() -> list[bytes]:
        for index in range(3):
            taken.append(index)
            yield b"ab"

    parts = encapsulate(frames(), with_table=False)
    next(parts)

    assert not taken
    assert b"".join(parts).count(b"ab") == 3


@pytest.mark.parametrize("lengths", [[1], [2, 1, 1], [2]])
def test_frames_of_other_lengths_than_announced(lengths: list[int]) -> None:
    with pytest.raises(EncapsulationError):
        b"".join(encapsulate(iter([b"ab", b"c"]), lengths=lengths))


@given(frame_lists, st.binary(max_size=16), st.integers(0, 500))
def test_a_value_that_ends_early_is_not_complete(parts: list[bytes], table: bytes, length: int) -> None:
    value = EXPLICIT.fragments(parts, table)
    length %= len(value)

    enc = parsed(value[:length])

    assert not enc.complete
    assert [payload(value, fragment) for fragment in enc.fragments] == parts[: len(enc.fragments)]
    assert all(fragment.offset + fragment.length <= length for fragment in enc.fragments)
    with pytest.raises(EncapsulationError, match="ends early"):
        skeleton(io.BytesIO(value), enc, 0, length)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (EXPLICIT.fragments([b"ab"]) + b"x", "1 bytes follow"),
        (EXPLICIT.element(0x00100010, "PN", b"x "), "where an item of Pixel Data is expected"),
        (EXPLICIT.item(b"", undefined=True) + DELIMITER, "where an item of Pixel Data is expected"),
    ],
)
def test_a_value_of_something_else(value: bytes, reason: str) -> None:
    with pytest.raises(EncapsulationError, match=reason):
        parsed(value)


def test_an_offset_table_of_no_reasonable_size_is_not_loaded() -> None:
    value = EXPLICIT.fragments([], bytes((1 << 23) + 4))

    with pytest.raises(EncapsulationError, match="Offset Table has 8388612 bytes"):
        parsed(value)


@given(st.binary(max_size=200), st.integers(1, 5))
def test_noise_is_parsed_or_refused(noise: bytes, number_of_frames: int) -> None:
    for value in (noise, EXPLICIT.item(b"") + noise, EXPLICIT.item(noise[:16]) + noise[16:] + DELIMITER):
        try:
            enc = parsed(value)
            frame_fragments(enc, number_of_frames, reader=io.BytesIO(value))
            skeleton(io.BytesIO(value), enc, 0, len(value))
        except DicomError as error:
            assert str(error)  # noqa: PT017 -- noise may be right


def fragmented(*runs: int) -> tuple[bytes, Encapsulation, list[list[int]]]:
    """A value whose frames have so many fragments each, and the right assignment."""
    parts = [bytes([65 + number]) * (2 + 2 * number) for number in range(sum(runs))]
    value = EXPLICIT.fragments(parts)
    expected, first = [], 0
    for run in runs:
        expected.append(list(range(first, first + run)))
        first += run
    return value, parsed(value), expected


def with_table(enc: Encapsulation, offsets: list[int]) -> Encapsulation:
    return Encapsulation(struct.pack(f"<{len(offsets)}L", *offsets), enc.fragments, enc.complete)


@given(st.lists(st.integers(1, 4), min_size=1, max_size=6))
def test_frames_of_several_fragments_by_either_table(runs: list[int]) -> None:
    _, enc, expected = fragmented(*runs)
    offsets = offsets_of(enc, [run[0] for run in expected])
    lengths = [sum(enc.fragments[index].length for index in run) for run in expected]

    assert frame_fragments(with_table(enc, offsets), len(runs)) == expected
    assert frame_fragments(enc, len(runs), extended=(offsets, lengths)) == expected


@given(st.lists(st.integers(1, 3), min_size=1, max_size=5), st.lists(st.integers(0, 60), max_size=6))
def test_a_table_is_believed_only_if_it_hits_fragments(runs: list[int], offsets: list[int]) -> None:
    _, enc, _ = fragmented(*runs)
    starts = {fragment.offset - enc.fragments[0].offset: index for index, fragment in enumerate(enc.fragments)}
    right = len(offsets) == len(runs) and offsets[:1] == [0] and offsets == sorted(set(offsets) & set(starts))
    try:
        found = frame_fragments(with_table(enc, offsets), len(runs))
    except EncapsulationError:
        assert not right
        assert 1 < len(runs) < len(enc.fragments)
    else:
        assert [index for run in found for index in run] == list(range(len(enc.fragments)))
        if right:
            assert [run[0] for run in found] == [starts[offset] for offset in offsets]


def test_without_tables_frames_are_counted() -> None:
    _, enc, _ = fragmented(1, 1, 1)

    assert frame_fragments(enc, 3) == [[0], [1], [2]]
    assert frame_fragments(enc, 1) == [[0, 1, 2]]
    with pytest.raises(EncapsulationError, match="no offset table tells which of 3 fragments"):
        frame_fragments(enc, 2)
    with pytest.raises(EncapsulationError, match="100 frames in 3 fragments"):
        frame_fragments(enc, 100)
    with pytest.raises(EncapsulationError, match="0 frames in 3 fragments"):
        frame_fragments(enc, 0)
    with pytest.raises(EncapsulationError, match="1 frame in 0 fragments"):
        frame_fragments(Encapsulation(b"", (), complete=True), 1)


def test_an_extended_table_whose_lengths_do_not_fit_is_not_believed() -> None:
    _, enc, expected = fragmented(2, 1)
    offsets = offsets_of(enc, [0, 2])

    assert frame_fragments(enc, 2, extended=(offsets, [5, 6])) == expected
    for lengths in ([7, 6], [6, 7], [6]):
        with pytest.raises(EncapsulationError):
            frame_fragments(enc, 2, extended=(offsets, lengths))


def test_extended_tables_are_read_from_elements() -> None:
    offsets = RawValue("OV", struct.pack("<2Q", 0, 1 << 40))
    lengths = RawValue("OV", struct.pack("<2Q", 5, 6))

    assert extended_offsets({0x7FE00001: offsets, 0x7FE00002: lengths}) == ([0, 1 << 40], [5, 6])
    assert extended_offsets({0x7FE00001: offsets}) is None
    assert extended_offsets({0x7FE00001: offsets, 0x7FE00002: RawValue("OV", bytes(8))}) is None


@pytest.mark.parametrize(
    ("start", "end"),
    [
        (JPEG_START, JPEG_END),
        (JPEG_START, JPEG_END + b"\0"),
        (b"\xff\x4f\xff\x51", JPEG_END),
        (b"\xff\x0a", b"zz"),
        (b"\0\0\0\x0cJXL \r\n\x87\n", b"zz"),
    ],
)
def test_frames_are_told_apart_by_the_signature_of_their_code_stream(start: bytes, end: bytes) -> None:
    parts = [start + b"a", b"b", b"c" + end, start + b"d" + end, start + b"e", b"f" + end]
    value = EXPLICIT.fragments(parts)
    enc = parsed(value)

    assert frame_fragments(enc, 3, reader=io.BytesIO(value)) == [[0, 1, 2], [3], [4, 5]]
    assert frame_fragments(with_table(enc, [0, 3, 4]), 3, reader=io.BytesIO(value)) == [[0, 1, 2], [3], [4, 5]]
    for number_of_frames in (2, 4):
        with pytest.raises(EncapsulationError):
            frame_fragments(enc, number_of_frames, reader=io.BytesIO(value))
    with pytest.raises(EncapsulationError):
        frame_fragments(enc, 3)


def test_a_signature_inside_a_code_stream_does_not_begin_a_frame() -> None:
    value = EXPLICIT.fragments([JPEG_START + b"a", JPEG_START + b"b" + JPEG_END, JPEG_START + JPEG_END])

    assert frame_fragments(parsed(value), 2, reader=io.BytesIO(value)) == [[0, 1], [2]]


@given(st.binary(max_size=16), frame_lists, st.binary(max_size=9), st.integers(1, 50))
def test_a_skeleton_and_the_payload_make_the_value(table: bytes, parts: list[bytes], before: bytes, cut: int) -> None:
    value = EXPLICIT.fragments(parts, table)
    reader = io.BytesIO(before + value)
    enc = parse(reader, len(before), len(before) + len(value))

    bones = skeleton(reader, enc, len(before), len(before) + len(value))

    assert len(bones) == len(value) - sum(map(len, parts))
    flesh = b"".join(parts)
    chunks = [flesh[at : at + cut] for at in range(0, len(flesh), cut)]
    assert b"".join(weave(bones, chunks)) == value
    assert b"".join(weave(bones, parts)) == value


def test_a_value_without_any_item_has_a_skeleton() -> None:
    enc = parsed(DELIMITER)

    assert enc == Encapsulation(b"", (), complete=True)
    assert b"".join(weave(skeleton(io.BytesIO(DELIMITER), enc, 0, 8), [])) == DELIMITER


def test_payload_that_does_not_fit_its_skeleton() -> None:
    value = EXPLICIT.fragments([b"ab", b"cd"])
    bones = skeleton(io.BytesIO(value), parsed(value), 0, len(value))

    for chunks in ([b"abc"], [b"abcd", b"e"], []):
        with pytest.raises(EncapsulationError):
            b"".join(weave(bones, chunks))
    assert b"".join(weave(bones, [b"", b"abcd", b""])) == value


@given(st.binary(max_size=60), st.lists(st.binary(max_size=10), max_size=4))
def test_a_skeleton_that_is_none(noise: bytes, chunks: list[bytes]) -> None:
    for bones in (noise, EXPLICIT.item(b"") + noise, EXPLICIT.item(noise) + noise):
        try:
            b"".join(weave(bones, chunks))
        except EncapsulationError as error:
            assert str(error)  # noqa: PT017 -- noise may be right


def check_encapsulated_file(path: Path) -> bool:
    """Compare frames with pydicom's, and weave the value again; whether there were any."""
    with path.open("rb") as reader:
        try:
            layout = scan(reader)
        except DicomError:
            return False
        if layout.pixel is None or not layout.pixel.encapsulated or layout.problem:
            return False
        start, end = layout.pixel.value_offset, layout.pixel.value_end
        count = frame_spec(layout.elements, layout.pixel).number_of_frames
        enc = parse(reader, start, end)
        bones = skeleton(reader, enc, start, end)
        assigned = frame_fragments(enc, count, extended=extended_offsets(layout.elements), reader=reader)
        reader.seek(0)
        ds = pydicom.dcmread(reader, force=True)
    data = path.read_bytes()
    payloads = [payload(data, fragment) for fragment in enc.fragments]
    assert b"".join(weave(bones, payloads)) == data[start:end]
    expected = list(generate_frames(ds.PixelData, number_of_frames=count))
    assert [b"".join(payloads[index] for index in run) for run in assigned] == expected, path
    return True


def test_frames_of_the_bundled_files() -> None:
    assert sum(check_encapsulated_file(path) for path in recipes.bundled()) > 20


@pytest.mark.corpus
def test_frames_of_the_corpus() -> None:
    assert sum(check_encapsulated_file(path) for path in recipes.corpus()) > 50
