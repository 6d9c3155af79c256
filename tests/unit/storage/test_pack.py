"""Packs: what is written, who can read it, and what is refused."""

from __future__ import annotations

import io
import random
import shutil
import struct
import subprocess
import zipfile
import zlib
from pathlib import Path
from typing import BinaryIO, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leanpacs.errors import PackError
from leanpacs.storage.pack import Entry, PackReader, PackWriter

TYPICAL = {"head.zst": b"h" * 700, "frames/00001.jxl": b"f" * 100_000, "manifest.json": b"{}"}
STREAMED = 2 << 20

names = st.from_regex(r"[a-z0-9]{1,8}(/[a-z0-9]{1,8})?\.[a-z]{1,4}", fullmatch=True)


def packed(entries: dict[str, bytes]) -> io.BytesIO:
    """A pack of some entries."""
    file = io.BytesIO()
    writer = PackWriter(file)
    for name, content in entries.items():
        writer.add(name, content)
    assert writer.close() == len(file.getvalue())
    return file


def opened(content: bytes) -> PackReader:
    """A reader of bytes."""
    return PackReader(io.BytesIO(content))


# ------------------------------------------------------------------------------------------- good packs


@given(entries=st.dictionaries(names, st.binary(max_size=300), max_size=8))
def test_what_goes_in_comes_out(entries: dict[str, bytes]) -> None:
    file = packed(entries)
    reader = PackReader(file)
    assert list(reader.entries) == list(entries)
    for name, content in entries.items():
        assert reader.read(name) == content
        assert b"".join(reader.chunks(name, size=7)) == content
        entry = reader.entries[name]
        assert file.getvalue()[entry.offset : entry.offset + entry.length] == content
        assert entry.crc32 == zlib.crc32(content)


@given(entries=st.dictionaries(names, st.binary(max_size=300), max_size=8))
def test_the_standard_library_reads_it(entries: dict[str, bytes]) -> None:
    with zipfile.ZipFile(packed(entries)) as other:
        assert other.testzip() is None
        assert {info.filename: other.read(info) for info in other.infolist()} == entries
        assert all(info.compress_type == zipfile.ZIP_STORED for info in other.infolist())
        assert all(info.date_time == (1980, 1, 1, 0, 0, 0) for info in other.infolist())


@pytest.mark.external
@pytest.mark.parametrize("streamed", [False, True])
def test_unzip_reads_it(tmp_path: Path, streamed: bool) -> None:
    if not shutil.which("unzip"):
        pytest.skip("unzip is not installed")
    path = tmp_path / "pack.zip"
    with path.open("wb") as file:
        writer = PackWriter(file)
        for name, content in TYPICAL.items():
            writer.add(name, content)
        if streamed:
            writer.add("large.bin", iter([bytes(STREAMED), b"end"]))
        writer.close()
    done = subprocess.run(["unzip", "-t", str(path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "No errors detected" in done.stdout


def test_equal_entries_give_equal_files() -> None:
    assert packed(TYPICAL).getvalue() == packed(TYPICAL).getvalue()


def test_container_of_a_single_frame_is_small() -> None:
    assert len(packed(TYPICAL).getvalue()) - sum(map(len, TYPICAL.values())) == 324


def test_writer_tells_where_entries_are() -> None:
    file = io.BytesIO()
    writer = PackWriter(file)
    added = [writer.add(name, content) for name, content in TYPICAL.items()]
    writer.close()
    assert list(PackReader(file).entries.values()) == added
    assert list(writer.entries.values()) == added


@pytest.mark.parametrize("chunks", [[], [b""], [b"a"], [b"a", b"", b"bc"]])
def test_few_chunks_are_written_as_one_piece(chunks: list[bytes]) -> None:
    file = io.BytesIO()
    writer = PackWriter(file)
    writer.add("a.bin", iter(chunks))
    writer.add("b.bin", b"after")
    writer.close()
    assert file.getvalue() == packed({"a.bin": b"".join(chunks), "b.bin": b"after"}).getvalue()


def test_large_content_is_streamed() -> None:
    chunk = random.Random(1).randbytes(300_000)
    file = io.BytesIO()
    writer = PackWriter(file)
    writer.add("first.bin", b"1")
    entry = writer.add("large.bin", (chunk for _ in range(10)))
    writer.add("last.bin", b"2")
    writer.close()
    reader = PackReader(file)
    assert reader.entries["large.bin"] == entry
    assert reader.read("large.bin") == chunk * 10
    assert b"".join(reader.chunks("large.bin")) == chunk * 10
    assert (reader.read("first.bin"), reader.read("last.bin")) == (b"1", b"2")
    with zipfile.ZipFile(file) as other:
        assert other.testzip() is None


@pytest.mark.parametrize("name", ["", "/a", "a/", "a//b", "../a", "a/../b", ".hidden", "a b", "ä", "a\\b", "x" * 256])
def test_names_that_cannot_be(name: str) -> None:
    with pytest.raises(ValueError, match="named"):
        PackWriter(io.BytesIO()).add(name, b"")


def test_names_are_given_once() -> None:
    writer = PackWriter(io.BytesIO())
    writer.add("a", b"1")
    with pytest.raises(ValueError, match="named"):
        writer.add("a", b"2")


def test_more_entries_than_a_plain_zip_holds() -> None:
    entries = {f"frames/{n:05d}.raw": b"" for n in range(70_000)}
    file = packed(entries)
    assert list(PackReader(file).entries) == list(entries)
    with zipfile.ZipFile(file) as other:
        assert len(other.namelist()) == 70_000


class Sparse(io.RawIOBase):
    """A file of which only what is not zero is held, to have large ones."""

    def __init__(self) -> None:
        self.pieces: dict[int, bytes] = {}
        self.position = self.size = 0

    def write(self, data: bytes) -> int:  # type: ignore[override]
        if len(data) < 1000 or any(data[:: len(data) // 100]):
            self.pieces[self.position] = data
        self.position += len(data)
        self.size = max(self.size, self.position)
        return len(data)

    def seek(self, offset: int, whence: int = 0) -> int:
        self.position = offset + (0, self.position, self.size)[whence]
        return self.position

    def tell(self) -> int:
        return self.position

    def seekable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        end = self.size if size < 0 else min(self.size, self.position + size)
        data = bytearray(max(0, end - self.position))
        for start, piece in sorted(self.pieces.items()):
            low, high = max(start, self.position), min(start + len(piece), end)
            if low < high:
                data[low - self.position : high - self.position] = piece[low - start : high - start]
        self.position = max(end, self.position)
        return bytes(data)


def test_beyond_four_gigabytes() -> None:
    file = cast("BinaryIO", Sparse())
    zeros = bytes(1 << 27)
    writer = PackWriter(file)
    large = writer.add("large.bin", (zeros for _ in range(33)))
    after = writer.add("after.bin", b"behind it")
    size = writer.close()
    assert large.length == 33 << 27
    assert after.header_offset > 1 << 32
    reader = PackReader(file)
    assert dict(reader.entries) == {"large.bin": large, "after.bin": after}
    assert reader.read("after.bin") == b"behind it"
    with zipfile.ZipFile(cast("BinaryIO", file)) as other:
        assert [(info.filename, info.file_size) for info in other.infolist()] == [
            ("large.bin", 33 << 27),
            ("after.bin", 9),
        ]
        assert other.read("after.bin") == b"behind it"
    assert file.seek(0, 2) == size


# -------------------------------------------------------------------------------------------- bad packs


@pytest.mark.parametrize("content", [b"", b"PK", b"no zip at all" * 10, b"PK\5\6" + bytes(17), b"PK\5\6" + bytes(19)])
def test_what_is_no_pack(content: bytes) -> None:
    with pytest.raises(PackError):
        opened(content)


def test_an_empty_pack_is_a_pack() -> None:
    assert not opened(packed({}).getvalue()).entries


def test_absent_entries() -> None:
    reader = PackReader(packed(TYPICAL))
    with pytest.raises(PackError, match="no tail"):
        reader.read("tail.zst")
    with pytest.raises(PackError, match="no tail"):
        reader.chunks("tail.zst")


def test_every_flipped_byte_is_found() -> None:
    """No byte of a pack may change unnoticed; most are found at opening, contents when they are read."""
    good = packed({"head.zst": b"head", "frames/00001.jxl": b"a frame", "manifest.json": b"{}"}).getvalue()
    for position in range(len(good)):
        for bit in (0, 7):
            bad = bytearray(good)
            bad[position] ^= 1 << bit
            with pytest.raises(PackError):
                read_all(bytes(bad))


def test_every_cut_is_found() -> None:
    good = packed(TYPICAL).getvalue()
    for length in [*range(len(good) - 300, len(good)), 0, 1, 21, 22, 100]:
        with pytest.raises(PackError):
            opened(good[:length])


@settings(max_examples=200)
@given(st.data())
def test_garbage_is_refused_or_read_in_bounds(draw: st.DataObject) -> None:
    good = packed({"a.bin": b"x" * 50, "b.bin": b"y" * 50}).getvalue()
    bad = bytearray(good)
    for _ in range(draw.draw(st.integers(1, 4))):
        position = draw.draw(st.integers(0, len(bad) - 1))
        piece = draw.draw(st.binary(min_size=1, max_size=8) | st.just(b"\xff" * 4) | st.just(b"\xff" * 8))
        bad[position : position + len(piece)] = piece
    try:
        contents = read_all(bytes(bad))
    except PackError:
        return
    assert sum(map(len, contents.values())) <= len(bad)


def read_all(content: bytes) -> dict[str, bytes]:
    """Everything in a pack, read both ways."""
    reader = opened(content)
    contents = {name: reader.read(name) for name in reader.entries}
    assert {name: b"".join(reader.chunks(name)) for name in reader.entries} == contents
    return contents


def zip_by_standard_library(**options: object) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as other:
        info = zipfile.ZipInfo("head.zst")
        for name, value in options.items():
            setattr(info, name, value)
        other.writestr(info, b"head" * 20)
    return file.getvalue()


@pytest.mark.parametrize(
    "options", [{}, {"compress_type": zipfile.ZIP_DEFLATED}, {"comment": b"hello"}, {"extra": b"\1\0\0\0"}]
)
def test_other_zips_are_not_packs(options: dict[str, object]) -> None:
    with pytest.raises(PackError):
        opened(zip_by_standard_library(**options))


def test_bytes_before_and_after_are_refused() -> None:
    good = packed(TYPICAL).getvalue()
    with pytest.raises(PackError):
        opened(b"#!/bin/sh\n" + good)
    with pytest.raises(PackError):
        opened(good + b"\0")


def forged(directory: list[Entry], body: bytes) -> bytes:
    """A pack whose central directory says what we like."""
    from leanpacs.storage.pack import _central_header, _end_records

    central = b"".join(map(_central_header, directory))
    return body + central + _end_records(len(directory), len(central), len(body))


def test_overlaps_gaps_and_twins_are_refused() -> None:
    entry = PackReader(packed({"a.bin": b"x" * 10})).entries["a.bin"]
    body = packed({"a.bin": b"x" * 10}).getvalue()[: entry.offset + 10]
    assert opened(forged([entry], body)).read("a.bin") == b"x" * 10
    twin = Entry("b.bin", 0, 10, entry.crc32, 0)
    with pytest.raises(PackError, match="overlaps"):
        opened(forged([entry, twin], body))
    with pytest.raises(PackError, match="overlaps"):
        opened(forged([entry, Entry("a.bin", 0, 10, entry.crc32, len(body))], body + body))
    with pytest.raises(PackError, match="gap"):
        opened(forged([entry], body + b"gap"))
    with pytest.raises(PackError, match="no entry"):
        opened(forged([], body))


@pytest.mark.parametrize("length", [1 << 31, 1 << 32, (1 << 64) - 1])
def test_absurd_sizes_are_refused_before_anything_is_read(length: int) -> None:
    entry = PackReader(packed({"a.bin": b"x" * 10})).entries["a.bin"]
    body = packed({"a.bin": b"x" * 10}).getvalue()[: entry.offset + 10]
    with pytest.raises(PackError):
        opened(forged([Entry("a.bin", 0, length, entry.crc32, 0)], body))


@pytest.mark.parametrize(("count", "size", "offset"), [(1 << 60, 1 << 63, 1 << 63), (1, (1 << 64) - 1, 1)])
def test_absurd_directories_are_refused(count: int, size: int, offset: int) -> None:
    record = struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, count, count, size, offset)
    locator = struct.pack("<4sLQL", b"PK\6\7", 0, 0, 1)
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
    with pytest.raises(PackError, match="longer than it can be"):
        opened(record + locator + end)
