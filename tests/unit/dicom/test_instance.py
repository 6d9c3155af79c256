"""Finding the parts of an instance."""

from __future__ import annotations

import io
import random
import struct
import zlib
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import data as recipes
import encoded
from encoded import BIG, EXPLICIT, IMPLICIT, PREAMBLE, UNDEFINED, Drawn, Encoding, file_meta
from leanpacs.dicom.attributes import INDEXED_TAGS
from leanpacs.dicom.deflate import inflate
from leanpacs.dicom.elements import PIXEL_TAGS
from leanpacs.dicom.instance import scan
from leanpacs.dicom.layout import Layout, PixelSpan, RawValue
from leanpacs.dicom.uids import DEFLATED_LE, EXPLICIT_BE, EXPLICIT_LE, IMPLICIT_LE, JPEG_BASELINE, RLE
from leanpacs.errors import DicomError, InflateError, NotDicom

HEAD = [
    (0x00080005, "CS", b"ISO_IR 100"),
    (0x00080016, "UI", b"1.2.840.10008.5.1.4.1.1.7\0"),
    (0x00080018, "UI", b"1.2.3.4\0"),
    (0x00100010, "PN", b"Doe^Jane"),
]


def head(encoding: Encoding) -> bytes:
    return b"".join(encoding.element(*element) for element in HEAD)


def scanned(data: bytes, transfer_syntax: str | None = None) -> Layout:
    return scan(io.BytesIO(data), transfer_syntax=transfer_syntax)


def assert_joins(data: bytes, layout: Layout) -> None:
    """The parts lie one after another and are all there is."""
    assert layout.length == len(data)
    assert 0 <= layout.preface_length <= layout.head_end <= layout.tail_start <= layout.length
    assert data[: layout.head_end] + data[layout.head_end : layout.tail_start] + data[layout.tail_start :] == data
    if layout.pixel is not None:
        pixel = layout.pixel
        assert layout.preface_length <= pixel.header_offset < pixel.value_offset <= pixel.value_end
        assert (layout.head_end, layout.tail_start) == (pixel.value_offset, pixel.value_end)


@given(encoded.instances())
def test_the_parts_of_an_instance_are_found_where_they_are(drawn: Drawn) -> None:
    data = drawn.data

    layout = scanned(data, None if drawn.preface else drawn.uid)

    assert layout.problem is None
    assert layout.transfer_syntax == drawn.uid
    assert (layout.implicit_vr, layout.little_endian) == (drawn.encoding.implicit, drawn.encoding.little)
    assert layout.preface_length == len(drawn.preface)
    assert_joins(data, layout)
    for (tag, offset, end), (_, header, rest) in zip(drawn.ends(), drawn.parts, strict=True):
        if tag in PIXEL_TAGS:
            assert layout.pixel is not None
            assert (layout.pixel.tag, layout.pixel.header_offset) == (tag, offset)
            assert (layout.pixel.value_offset, layout.pixel.value_end) == (offset + len(header), end)
            assert layout.pixel.encapsulated == (header[-4:] == b"\xff\xff\xff\xff")
            assert layout.pixel.vr == ("OW" if drawn.encoding.implicit and tag == 0x7FE00010 else layout.pixel.vr)
        elif tag in INDEXED_TAGS:
            assert layout.elements[tag].value == rest
    if not any(tag in PIXEL_TAGS for tag, _, _ in drawn.parts):
        assert layout.pixel is None


@given(encoded.instances(), st.integers(0, 10_000), st.binary(max_size=6), st.sampled_from(["cut", "put", "flip"]))
def test_damage_gives_a_layout_or_a_dicom_error(drawn: Drawn, at: int, some: bytes, how: str) -> None:
    data = bytearray(drawn.data)
    at %= len(data)
    if how == "cut":
        del data[at:]
    elif how == "put":
        data[at:at] = some
    else:
        data[at : at + len(some)] = some
    try:
        layout = scanned(bytes(data), None if drawn.preface else drawn.uid)
    except DicomError as error:
        assert str(error)  # noqa: PT017 -- some damage is harmless
    else:
        assert_joins(bytes(data), layout)


@given(st.binary(max_size=300), st.sampled_from([None, EXPLICIT_LE, IMPLICIT_LE, EXPLICIT_BE, DEFLATED_LE, RLE, "1.2"]))
def test_noise_gives_a_layout_or_a_dicom_error(noise: bytes, uid: str | None) -> None:
    for data in (noise, PREAMBLE + noise, PREAMBLE + file_meta(uid) + noise):
        try:
            layout = scanned(data, uid)
        except DicomError as error:
            assert str(error)  # noqa: PT017 -- some noise is a data set
        else:
            assert layout.deflated or layout.length == len(data)


@given(encoded.instances(file=True, kinds=("native", "encapsulated", "float")), st.data())
def test_a_truncated_pixel_data_is_a_problem_and_no_error(drawn: Drawn, data: st.DataObject) -> None:
    start, end = next((start, end) for tag, start, end in drawn.ends() if tag in PIXEL_TAGS)
    header = next(len(header) for tag, header, _ in drawn.parts if tag in PIXEL_TAGS)
    assume(start + header < end)
    length = data.draw(st.integers(start + header, end - 1))

    layout = scanned(drawn.data[:length])

    assert layout.problem is not None
    assert "Pixel Data" in layout.problem or "an item" in layout.problem
    assert layout.pixel is not None
    assert layout.pixel.value_end == length
    assert_joins(drawn.data[:length], layout)


def test_the_text_of_a_problem_is_for_people() -> None:
    data = PREAMBLE + file_meta(EXPLICIT_LE) + head(EXPLICIT) + EXPLICIT.element(0x7FE00010, "OW", bytes(100), 8192)

    assert scanned(data).problem == f"Pixel Data holds 100 of 8192 bytes (at byte {len(data) - 112})"


def test_a_truncated_sequence_is_a_problem_and_what_is_before_it_is_found() -> None:
    whole = EXPLICIT.sequence(0x00880200, [EXPLICIT.item(bytes(100))])
    undefined = EXPLICIT.sequence(0x00880200, [EXPLICIT.item(head(EXPLICIT), undefined=True)], undefined=True)
    for sequence in (whole, undefined):
        data = PREAMBLE + file_meta(EXPLICIT_LE) + head(EXPLICIT) + sequence[:-20]
        layout = scanned(data)

        assert layout.problem is not None
        assert layout.pixel is None
        assert layout.elements[0x00100010].value == b"Doe^Jane"
        assert_joins(data, layout)


@pytest.mark.parametrize("encoding", [EXPLICIT, IMPLICIT, BIG])
@pytest.mark.parametrize("prefix", [PREAMBLE, b"DICM", b""])
@pytest.mark.parametrize("group_length", [True, False])
def test_preamble_and_group_length_may_be_absent(encoding: Encoding, prefix: bytes, group_length: bool) -> None:
    preface = prefix + file_meta(encoding.uid, group_length=group_length)

    layout = scanned(preface + head(encoding))

    assert layout.preface_length == len(preface)
    assert layout.transfer_syntax == encoding.uid
    assert layout.elements[0x00020002].value == b"1.2.840.10008.5.1.4.1.1.7\0"
    assert layout.elements[0x00100010] == RawValue(
        None if encoding.implicit else "PN", b"Doe^Jane", little_endian=encoding.little
    )


@pytest.mark.parametrize("encoding", [EXPLICIT, IMPLICIT, BIG])
@pytest.mark.parametrize("preface", [PREAMBLE, PREAMBLE + file_meta(None), b""])
def test_the_encoding_is_guessed_when_nothing_tells(encoding: Encoding, preface: bytes) -> None:
    layout = scanned(preface + head(encoding))

    assert layout.transfer_syntax == encoding.uid
    assert (layout.implicit_vr, layout.little_endian) == (encoding.implicit, encoding.little)
    assert layout.preface_length == len(preface)
    assert len(layout.elements) == len(HEAD) + preface.endswith(b"1.7\0")


@pytest.mark.parametrize("declared", [EXPLICIT, IMPLICIT, BIG])
@pytest.mark.parametrize("real", [EXPLICIT, IMPLICIT, BIG])
def test_the_encoding_that_reads_is_used_whatever_is_declared(declared: Encoding, real: Encoding) -> None:
    data = PREAMBLE + file_meta(declared.uid) + head(real)

    layout = scanned(data)

    assert layout.transfer_syntax == declared.uid
    assert (layout.implicit_vr, layout.little_endian) == (real.implicit, real.little)
    assert layout.elements[0x00100010].value == b"Doe^Jane"


def test_the_negotiated_transfer_syntax_goes_before_the_one_of_the_file() -> None:
    data = PREAMBLE + file_meta(EXPLICIT_LE) + head(EXPLICIT) + EXPLICIT.encapsulated(0x7FE00010, [b"ab"])

    assert scanned(data, RLE).transfer_syntax == RLE
    assert scanned(data, RLE).problem is None
    assert scanned(data).problem == "Pixel Data is encapsulated, which Explicit VR Little Endian does not allow"


def test_native_pixel_data_in_an_encapsulated_transfer_syntax_is_a_problem() -> None:
    data = head(EXPLICIT) + EXPLICIT.element(0x7FE00010, "OW", bytes(4))

    assert scanned(data, JPEG_BASELINE).problem == "Pixel Data is not encapsulated, as JPEG Baseline (Process 1) asks"
    assert scanned(data, EXPLICIT_LE).problem is None


def test_an_unknown_transfer_syntax_may_encapsulate_or_not() -> None:
    for pixel in (EXPLICIT.element(0x7FE00010, "OW", bytes(4)), EXPLICIT.encapsulated(0x7FE00010, [b"ab"])):
        layout = scanned(head(EXPLICIT) + pixel, "1.2.3.4.5")

        assert layout.problem is None
        assert layout.transfer_syntax == "1.2.3.4.5"
        assert layout.pixel is not None


def test_pixel_data_in_sequences_is_left_alone() -> None:
    icon = EXPLICIT.encapsulated(0x7FE00010, [b"icon"])
    for undefined in (False, True):
        sequence = EXPLICIT.sequence(0x00880200, [EXPLICIT.item(icon, undefined=undefined)], undefined=undefined)
        main = EXPLICIT.encapsulated(0x7FE00010, [b"main"])
        data = head(EXPLICIT) + sequence + main

        layout = scanned(data, RLE)

        start = len(data) - len(main)
        assert layout.pixel == PixelSpan(0x7FE00010, "OB", start, start + 12, len(data), encapsulated=True)
        assert scanned(head(EXPLICIT) + sequence, RLE).pixel is None


def test_pixel_data_that_occurs_twice_is_a_problem() -> None:
    pixel = EXPLICIT.element(0x7FE00010, "OW", bytes(4))

    layout = scanned(head(EXPLICIT) + pixel + pixel, EXPLICIT_LE)

    assert layout.problem == f"Pixel Data stands at byte {len(head(EXPLICIT)) + 16} a second time"


def test_odd_lengths_and_padding_belong_to_the_tail() -> None:
    value = bytes(range(9))
    rest = EXPLICIT.element(0xFFFCFFFC, "OB", b"pad") + bytes(3)
    data = PREAMBLE + file_meta(EXPLICIT_LE) + head(EXPLICIT) + EXPLICIT.element(0x7FE00010, "OB", value) + rest

    layout = scanned(data)

    assert layout.problem is None
    assert layout.pixel is not None
    assert data[layout.pixel.value_offset : layout.pixel.value_end] == value
    assert data[layout.tail_start :] == rest


def test_bytes_behind_the_data_set_that_are_no_elements_are_a_problem() -> None:
    data = head(EXPLICIT) + EXPLICIT.element(0x7FE00010, "OB", b"ab") + b"some other bytes"

    layout = scanned(data, EXPLICIT_LE)

    assert layout.problem is not None
    assert layout.pixel is not None


def test_elements_of_a_command_set_before_the_data_set() -> None:
    command = IMPLICIT.element(0x00000000, "UL", struct.pack("<L", 10)) + IMPLICIT.element(0x00000100, "US", b"\1\0")
    for preface in (b"", PREAMBLE + file_meta(EXPLICIT_LE)):
        for before in (command, EXPLICIT.element(0x00000000, "UL", bytes(4))):
            layout = scanned(preface + before + head(EXPLICIT))

            assert layout.preface_length == len(preface)
            assert not layout.implicit_vr
            assert layout.elements[0x00100010].value == b"Doe^Jane"


def test_only_wanted_values_of_reasonable_length_are_collected() -> None:
    data = head(EXPLICIT) + EXPLICIT.element(0x00200010, "UT", bytes(1 << 17))

    layout = scan(io.BytesIO(data), transfer_syntax=EXPLICIT_LE, wanted=[0x00100010, 0x00200010])

    assert dict(layout.elements) == {0x00100010: RawValue("PN", b"Doe^Jane")}


def test_a_value_is_read_across_the_end_of_a_block() -> None:
    for filling in range((1 << 16) - 120, (1 << 16) - 90):
        data = EXPLICIT.element(0x00080008, "UT", bytes(filling)) + head(EXPLICIT)[18:]

        assert scanned(data, EXPLICIT_LE).elements[0x00100010].value == b"Doe^Jane"


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "it is empty"),
        (b"hello", "there is no DICOM prefix"),
        (bytes(10_000), "there is no DICOM prefix"),
        (b"PK\3\4\x14\0\0\0\x08\0" + bytes(2_000_000), "there is no DICOM prefix"),
        (b"\x89PNG\r\n\x1a\n" + bytes(1000), "there is no DICOM prefix"),
        (b"The quick brown fox jumps over the lazy dog. " * 50, "there is no DICOM prefix"),
        (PREAMBLE, "no data set follows"),
        (PREAMBLE + file_meta(EXPLICIT_LE), "no data set follows"),
        (PREAMBLE + file_meta(EXPLICIT_LE) + bytes(100), "is no data set: only zeros"),
        (PREAMBLE + file_meta(EXPLICIT_LE)[:-1], r"ends inside its file meta information, at \(0002,0010\)"),
        (PREAMBLE + file_meta(EXPLICIT_LE) + head(EXPLICIT)[:12], r"is no data set: \(0008,0005\) holds 4 of 10"),
        (PREAMBLE + file_meta(EXPLICIT_LE) + b"<xml>not DICOM</xml>", "is no data set"),
    ],
)
def test_what_is_not_dicom_is_refused_with_a_reason(data: bytes, reason: str) -> None:
    with pytest.raises(NotDicom, match=reason):
        scanned(data)


def deflated(data: bytes, level: int = 6) -> bytes:
    compressor = zlib.compressobj(level, wbits=-15)
    return compressor.compress(data) + compressor.flush()


@given(encoded.instances(file=False, among=(EXPLICIT,), kinds=("none", "native", "float")))
def test_a_deflated_data_set_is_laid_out_as_the_inflated_one(drawn: Drawn) -> None:
    preface = PREAMBLE + file_meta(DEFLATED_LE)
    data = preface + deflated(drawn.data)

    layout = scanned(data)
    with inflate(io.BytesIO(data), layout.preface_length) as file:
        inflated = file.read()

    assert layout.deflated
    assert layout.transfer_syntax == DEFLATED_LE
    assert layout.problem is None
    assert inflated == preface + drawn.data
    assert_joins(inflated, layout)
    bare = scanned(deflated(drawn.data), DEFLATED_LE)
    assert (bare.deflated, bare.length, bare.preface_length) == (True, len(drawn.data), 0)


def test_a_data_set_that_is_declared_deflated_and_is_not() -> None:
    data = PREAMBLE + file_meta(DEFLATED_LE) + head(EXPLICIT)

    assert not scanned(data).deflated
    assert scanned(data).elements[0x00100010].value == b"Doe^Jane"


def test_a_deflated_data_set_that_ends_early_is_a_problem() -> None:
    content = head(EXPLICIT) + EXPLICIT.element(0x7FE00010, "OW", random.Random(1).randbytes(10_000))
    data = deflated(content)

    layout = scanned(data[:5000], DEFLATED_LE)

    assert layout.problem == "the deflated data set ends early"
    assert layout.elements[0x00100010].value == b"Doe^Jane"
    with pytest.raises(DicomError):
        scanned(b"\xff" * 100, DEFLATED_LE)


def test_a_deflated_data_set_is_inflated_into_the_spool_given(tmp_path: Path) -> None:
    opened = []

    def spool() -> io.BufferedRandom:
        opened.append((tmp_path / "spool").open("w+b"))
        return opened[-1]

    layout = scan(io.BytesIO(deflated(head(EXPLICIT))), transfer_syntax=DEFLATED_LE, spool=spool)

    assert layout.deflated
    assert [file.closed for file in opened] == [True]
    assert (tmp_path / "spool").read_bytes() == head(EXPLICIT)


def test_a_decompression_bomb_is_refused() -> None:
    bomb = deflated(head(EXPLICIT) + EXPLICIT.element(0x7FE00010, "OW", bytes(1 << 22)))

    with pytest.raises(InflateError, match="more than 1048576 bytes"):
        scan(io.BytesIO(bomb), transfer_syntax=DEFLATED_LE, inflate_limit_bytes=1 << 20)


def expected_pixel_data(path: Path) -> bytes | None:
    """The value of top-level Pixel Data as pydicom reads it."""
    import pydicom

    ds = pydicom.dcmread(path, force=True)
    for tag in PIXEL_TAGS:
        if tag in ds:
            value = ds.get_item(tag).value
            return value if isinstance(value, bytes) else None
    return None


def check_file(path: Path) -> Layout:
    with path.open("rb") as reader:
        layout = scan(reader)
        data = path.read_bytes()
        if layout.deflated:
            with inflate(reader, layout.preface_length) as inflated:
                data = inflated.read()
    assert_joins(data, layout)
    value = expected_pixel_data(path)
    if layout.problem is None:
        assert (value is None) == (layout.pixel is None)
    if layout.pixel is not None and layout.problem is None and value is not None:
        end = layout.pixel.value_end - 8 * layout.pixel.encapsulated
        assert data[layout.pixel.value_offset : end] == value
    return layout


# A stray byte before the first element: no reader makes sense of it.
UNREADABLE = {"no_meta.dcm"}
# A file that ends early, and nothing else.
DAMAGED = {"MR_truncated.dcm", "rtplan_truncated.dcm", "emri_small_jpeg_2k_lossless_too_short.dcm"}


def check_files(paths: list[Path]) -> None:
    assert paths
    for path in paths:
        name = path.name.rpartition("__")[2]
        if name in UNREADABLE:
            with pytest.raises(NotDicom):
                check_file(path)
        else:
            assert (check_file(path).problem is not None) == (name in DAMAGED), path


def test_every_bundled_file_is_laid_out() -> None:
    check_files(recipes.bundled())


@pytest.mark.corpus
def test_every_file_of_the_corpus_is_laid_out() -> None:
    check_files(recipes.corpus())


def test_mutated_real_files_give_a_layout_or_a_dicom_error() -> None:
    generator = random.Random(20)
    small = [path for path in recipes.bundled() if path.stat().st_size < 20_000]
    for path in small:
        data = path.read_bytes()
        for _ in range(15):
            mutated = bytearray(data)
            for _ in range(generator.randrange(1, 6)):
                mutated[generator.randrange(len(mutated))] = generator.choice([0, 0xFF, generator.randrange(256)])
            cut = generator.choice([len(mutated), generator.randrange(len(mutated))])
            try:
                layout = scanned(bytes(mutated[:cut]))
            except DicomError as error:
                assert str(error)  # noqa: PT017 -- most mutations are harmless
            else:
                assert layout.deflated or layout.length == cut


def test_undefined_length_in_the_head_of_a_large_file_is_not_slow() -> None:
    item = EXPLICIT.item(head(EXPLICIT), undefined=True)
    sequence = EXPLICIT.header(0x52009230, "SQ", UNDEFINED) + item * 20_000 + EXPLICIT.delimiter(0xFFFEE0DD)
    data = head(EXPLICIT) + sequence + EXPLICIT.element(0x7FE00010, "OW", bytes(100))

    assert scanned(data, EXPLICIT_LE).tail_start == len(data)
