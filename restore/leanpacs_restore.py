#!/usr/bin/env python3
"""Turn a LeanPACS store back into DICOM files, without LeanPACS.

    python3 leanpacs_restore.py STORE OUT

STORE is a store folder (it holds ``blobs`` and ``dictionaries``), the data folder of an archive with such stores
in it, a folder with packs, or one pack. Each instance becomes OUT/<study>/<series>/<instance>.dcm and is compared
with the SHA-256 of what was received. Files in ``blobs`` that are no ZIP have landed and were not packed yet: they
are copied as they are.

Needs Python 3.9 or later and

- for Zstandard: Python 3.14, or the module ``zstandard``, or the program ``zstd``;
- for images: the module ``imagecodecs``, or the programs ``djxl`` (JPEG XL), ``dcmdjpls`` (JPEG-LS) and
  ``opj_decompress`` 2.5 or later (JPEG 2000, HTJ2K). Frames that are as received (form "streams") or under
  Zstandard need neither. Received JPEG-LS, JPEG Lossless and RLE that was recoded (form "recoded") is encoded anew
  by this program itself, at 1 to 5 MB of samples a second; recompressed JPEG needs ``djxl`` or ``imagecodecs``.

The format is described in docs/reference/pack-format.md. Exit code: 0 when everything was restored, 1 when
something was not, 2 when the arguments are wrong.
"""

# ruff: noqa: S603, BLE001, B905 (it runs stock programs; one bad file must not keep the others from being restored;
# zip() checks no lengths before Python 3.10)

from __future__ import annotations

import argparse
import array
import base64
import hashlib
import io
import itertools
import json
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

CHUNK = 1 << 20
IMPLEMENTATION = "2.25.226843120437263108961936391893245331521"  # of this program, for file meta that it writes
ZIP_START = (b"PK\x03\x04", b"PK\x05\x06")


class Damaged(Exception):
    """A pack cannot be turned back into what was received."""


# ------------------------------------------------------------------------------------------- Zstandard


def dictionary_id(frame_start: bytes) -> int:
    """Number of the dictionary that a Zstandard frame needs, 0 for none (RFC 8878, 3.1.1.1)."""
    if frame_start[:4] != b"\x28\xb5\x2f\xfd":
        raise Damaged("an entry is not a Zstandard frame")
    descriptor = frame_start[4]
    position = 5 if descriptor & 0x20 else 6  # the window byte is there unless it is a single segment
    size = (0, 1, 2, 4)[descriptor & 3]
    return int.from_bytes(frame_start[position : position + size], "little")


class Zstandard:
    """Decompresses frames by whatever is at hand; ``dictionaries`` maps numbers to files."""

    def __init__(self, dictionaries: dict[int, Path]) -> None:
        self.dictionaries = dictionaries

    def chunks(self, source: IO[bytes]) -> Iterator[bytes]:
        """Content of the one frame that the file ``source`` holds, in pieces."""
        start = source.read(18)
        number = dictionary_id(start)
        path = None
        if number:
            if number not in self.dictionaries:
                raise Damaged(f"Zstandard dictionary {number} is missing")
            path = self.dictionaries[number]
        whole = _Joined(start, source)
        for decompress in (self._by_standard_library, self._by_module, self._by_program):
            try:
                yield from decompress(whole, path)
            except ImportError:
                continue  # raised before anything was read
            return

    def all(self, source: IO[bytes]) -> bytes:
        """Content of the one frame that the file ``source`` holds."""
        return b"".join(self.chunks(source))

    @staticmethod
    def _by_standard_library(source: _Joined, path: Path | None) -> Iterator[bytes]:
        from compression import zstd  # type: ignore[import-not-found]  # Python 3.14

        known = zstd.ZstdDict(path.read_bytes()) if path else None
        with zstd.ZstdFile(source, "rb", zstd_dict=known) as file:
            while piece := file.read(CHUNK):
                yield piece

    @staticmethod
    def _by_module(source: _Joined, path: Path | None) -> Iterator[bytes]:
        import zstandard

        known = zstandard.ZstdCompressionDict(path.read_bytes()) if path else None
        reader = zstandard.ZstdDecompressor(dict_data=known).stream_reader(io.BufferedReader(source))
        while piece := reader.read(CHUNK):
            yield piece

    @staticmethod
    def _by_program(source: _Joined, path: Path | None) -> Iterator[bytes]:
        program = shutil.which("zstd")
        if not program:
            raise Damaged("neither a Zstandard module nor the program zstd is installed")
        with tempfile.TemporaryFile() as frame:
            shutil.copyfileobj(source, frame)
            frame.seek(0)
            command = [program, "-d", "-q", "-c"] + (["-D", str(path)] if path else [])
            with subprocess.Popen(command, stdin=frame, stdout=subprocess.PIPE) as process:
                assert process.stdout is not None
                while piece := process.stdout.read(CHUNK):
                    yield piece
            if process.returncode:
                raise Damaged("zstd refuses an entry")


class _Joined(io.RawIOBase):
    """Some bytes, then a file."""

    def __init__(self, start: bytes, file: IO[bytes]) -> None:
        self.start, self.file = start, file

    def readable(self) -> bool:
        """Yes."""
        return True

    def read(self, size: int = -1) -> bytes:
        """At most ``size`` bytes."""
        if self.start:
            piece = self.start if size < 0 else self.start[:size]
            self.start = self.start[len(piece) :]
            return piece + self.file.read() if size < 0 else piece
        return self.file.read(size)

    def readinto(self, buffer: Any) -> int:
        """Read into ``buffer``."""
        piece = self.read(len(buffer))
        buffer[: len(piece)] = piece
        return len(piece)


# ---------------------------------------------------------------------------------------------- frames
#
# A decoder gives (bytes per value, whether the values are signed, values in little endian order, interleaved).


def decode_image(extension: str, stream: bytes, precision: int) -> tuple[int, bool, bytes]:
    """Values of one JPEG XL, JPEG-LS, JPEG 2000 or HTJ2K code stream."""
    names = {"jxl": "jpegxl", "jls": "jpegls", "j2k": "jpeg2k", "j2c": "htj2k"}
    if extension not in names:
        raise Damaged(f"no decoder for frames of kind {extension}")
    try:
        import imagecodecs
    except ImportError:
        return decode_image_by_program(extension, stream, precision)
    # Colour that is not transformed comes plane by plane from HTJ2K unless told otherwise.
    options = {"planar": False} if extension == "j2c" else {}
    values = getattr(imagecodecs, names[extension] + "_decode")(stream, **options)
    kind, width = values.dtype.kind, values.dtype.itemsize
    return width, kind == "i", values.astype(f"<{kind}{width}").tobytes()


def decode_image_by_program(extension: str, stream: bytes, precision: int) -> tuple[int, bool, bytes]:
    """The same by programs that come with operating systems."""
    name = {"jxl": "djxl", "jls": "dcmdjpls", "j2k": "opj_decompress", "j2c": "opj_decompress"}[extension]
    program = shutil.which(name)
    if not program:
        raise Damaged(f"frames of kind {extension} need the module imagecodecs or the program {name}")
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "in.j2k" if name == "opj_decompress" else "in.jxl")
        target = Path(folder, "out.rawl" if name == "opj_decompress" else "out.npy")
        words = {
            "djxl": [program, str(source), str(target)],
            "dcmdjpls": [program, "-F", "+px", str(source), str(target)],
            "opj_decompress": [program, "-i", str(source), "-o", str(target)],
        }[name]
        source.write_bytes(jpegls_file(stream) if name == "dcmdjpls" else stream)
        done = subprocess.run(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, check=False)
        if done.returncode or not target.exists():
            raise Damaged(f"{name} refuses a frame: {done.stderr.decode(errors='replace')[-200:]}")
        data = target.read_bytes()
    if name == "djxl":
        return read_npy(data, precision)
    if name == "dcmdjpls":
        return read_pixel_data(stream, data)
    return read_planes(stream, data)


def jpegls_shape(stream: bytes) -> tuple[int, int, int, int]:
    """Precision, rows, columns and components in the frame header (SOF55) of a JPEG-LS code stream."""
    position = 2
    while stream[position : position + 2] != b"\xff\xf7":
        if stream[position] != 0xFF:
            raise Damaged("a JPEG-LS code stream has no frame header")
        position += 2 + int.from_bytes(stream[position + 2 : position + 4], "big")
    precision, rows, columns, components = struct.unpack_from(">BHHB", stream, position + 4)
    return precision, rows, columns, components


def jpegls_file(stream: bytes) -> bytes:
    """A DICOM file around a JPEG-LS code stream, for dcmtk has no program for bare ones."""
    precision, rows, columns, components = jpegls_shape(stream)
    sop_class, instance, syntax = "1.2.840.10008.5.1.4.1.1.7", "2.25.1", "1.2.840.10008.1.2.4.80"
    colour = b"RGB" if components == 3 else b"MONOCHROME2"
    allocated = 8 if precision <= 8 else 16
    numbers = {2: components, 6: 0, 16: rows, 17: columns, 256: allocated, 257: precision, 258: precision - 1, 259: 0}
    elements = [element(8, 0x16, b"UI", sop_class.encode()), element(8, 0x18, b"UI", instance.encode())]
    elements += [element(0x28, n, b"US", struct.pack("<H", number)) for n, number in sorted(numbers.items())]
    elements.insert(3, element(0x28, 4, b"CS", colour + b" " * (len(colour) % 2)))
    stream += b"\0" * (len(stream) % 2)
    item = b"\xfe\xff\x00\xe0"
    value = item + bytes(4) + item + struct.pack("<L", len(stream)) + stream + b"\xfe\xff\xdd\xe0" + bytes(4)
    pixel_data = b"\xe0\x7f\x10\x00OB\0\0\xff\xff\xff\xff" + value
    return file_meta({"class": sop_class, "instance": instance, "syntax": syntax}) + b"".join(elements) + pixel_data


def read_pixel_data(stream: bytes, data_set: bytes) -> tuple[int, bool, bytes]:
    """Values of a data set that dcmdjpls decoded: Pixel Data is its last element."""
    precision, rows, columns, components = jpegls_shape(stream)
    width = 1 if precision <= 8 else 2
    length = rows * columns * components * width
    padded = length + length % 2
    if data_set[-padded - 4 : -padded] != struct.pack("<L", padded):
        raise Damaged("dcmdjpls wrote no native Pixel Data")
    return width, False, data_set[-padded:][:length]


def read_npy(data: bytes, precision: int) -> tuple[int, bool, bytes]:
    """Values of a NumPy file of djxl: floating point, 1.0 stands for the largest value of ``precision`` bits.

    (Its PGM files are of no use: some versions scale what has neither 8 nor 16 bits.)
    """
    if data[:6] != b"\x93NUMPY" or b"'<f4'" not in data[:128]:
        raise Damaged("djxl wrote no NumPy file")
    fractions = array.array("f")
    fractions.frombytes(in_order(data[10 + int.from_bytes(data[8:10], "little") :], 4, sys.byteorder))
    largest, width = (1 << precision) - 1, 1 if precision <= 8 else 2
    values = array.array("B" if width == 1 else "H", (round(fraction * largest) for fraction in fractions))
    return width, False, in_order(values.tobytes(), width, sys.byteorder)


def read_planes(stream: bytes, data: bytes) -> tuple[int, bool, bytes]:
    """Values of a raw file of opj_decompress: one component after the other; sign and size are in the SIZ marker."""
    components = int.from_bytes(stream[40:42], "big")
    depth = stream[42]
    width = 1 if (depth & 0x7F) + 1 <= 8 else 2
    return width, bool(depth & 0x80), interleaved(data, components, width)


def interleaved(data: bytes, samples: int, width: int) -> bytes:
    """Planes to pixels."""
    if samples == 1:
        return data
    plane, out = len(data) // samples, bytearray(len(data))
    for sample in range(samples):
        for byte in range(width):
            out[sample * width + byte :: samples * width] = data[sample * plane + byte : (sample + 1) * plane : width]
    return bytes(out)


def planes(data: bytes, samples: int, width: int) -> bytes:
    """Pixels to planes."""
    out = bytearray()
    for sample in range(samples):
        plane = bytearray(len(data) // samples)
        for byte in range(width):
            plane[byte::width] = data[sample * width + byte :: samples * width]
        out += plane
    return bytes(out)


def in_order(data: bytes, width: int, order: str) -> bytes:
    """Little endian values of ``width`` bytes in the byte order asked for, or the other way round."""
    if width == 1 or order == "little":
        return data
    out = bytearray(len(data))
    for byte in range(width):
        out[byte::width] = data[width - 1 - byte :: width]
    return bytes(out)


def widened(width: int, signed: bool, data: bytes, target: int, offset: int) -> bytes:
    """Little endian values of ``target`` bytes, ``offset`` subtracted from each (modulo their range)."""
    if width == target and not offset:
        return data
    values = array.array({(1, False): "B", (1, True): "b", (2, False): "H", (2, True): "h"}[width, signed])
    values.frombytes(in_order(data, width, sys.byteorder))
    mask = (1 << 8 * target) - 1
    out = array.array({1: "B", 2: "H"}[target], ((value - offset) & mask for value in values))
    return in_order(out.tobytes(), target, sys.byteorder)


def looked_up(width: int, data: bytes, target: int, levels: list[int]) -> bytes:
    """Little endian values of ``target`` bytes, by their indexes."""
    indexes = array.array({1: "B", 2: "H"}[width])
    indexes.frombytes(in_order(data, width, sys.byteorder))
    if max(indexes) >= len(levels):
        raise Damaged("a code stream holds an index that has no level")
    mask = (1 << 8 * target) - 1
    out = array.array({1: "B", 2: "H"}[target], (levels[index] & mask for index in indexes))
    return in_order(out.tobytes(), target, sys.byteorder)


def added_up(pixel: dict[str, Any], content: bytes) -> bytes:
    """Values of which the steps from left to right are held, each byte of the pixels apart."""
    width, samples, columns = pixel["allocated"] // 8, pixel["samples"], pixel["columns"]
    pixels, size = pixel["rows"] * columns, width * samples
    if len(content) != pixels * size:
        raise Damaged("a frame does not hold an image of this size")
    together = bytearray(len(content))
    for place in range(size):
        together[place::size] = content[place * pixels : (place + 1) * pixels]
    steps = array.array({1: "B", 2: "H"}[width])
    steps.frombytes(in_order(bytes(together), width, sys.byteorder))
    mask = (1 << 8 * width) - 1
    for row in range(0, len(steps), columns * samples):
        for first in range(row, row + samples):
            line = slice(first, row + columns * samples, samples)
            sums = itertools.accumulate(steps[line], lambda left, step: (left + step - 128) & mask, initial=0)
            steps[line] = array.array(steps.typecode, itertools.islice(sums, 1, None))
    return in_order(steps.tobytes(), width, sys.byteorder)


def native_frame(pixel: dict[str, Any], extension: str, stream: bytes, zstandard: Zstandard) -> bytes:
    """The bytes of one frame as they stood in Pixel Data."""
    if extension == "zst":
        return zstandard.all(io.BytesIO(stream))
    if extension == "dfl":
        return zlib.decompress(stream, -15)
    if extension == "raw":
        return stream
    target, samples = pixel["allocated"] // 8, pixel["samples"]
    if extension == "dlt":
        width, signed, data = target, bool(pixel["signed"]), added_up(pixel, zstandard.all(io.BytesIO(stream)))
    else:
        width, signed, data = decode_image(extension, stream, pixel["precision"])
    if len(data) != pixel["rows"] * pixel["columns"] * samples * width or width > target:
        raise Damaged("a code stream does not hold a frame of this image")
    if "levels" in pixel:
        data = looked_up(width, data, target, list(itertools.accumulate(pixel["levels"])))
    else:
        is_offset = pixel["signed"] and extension in ("jxl", "jls")
        data = widened(width, signed, data, target, 1 << (pixel["precision"] - 1) if is_offset else 0)
    if pixel["planar"] == 1 and samples > 1:
        data = planes(data, samples, target)
    return in_order(data, target, "big" if pixel["big_endian"] else "little")


# ------------------------------------------------------------------------- received code streams made again
#
# Form "recoded" holds received code streams in fewer bytes. JPEG is in JPEG XL with reconstruction data. Of RLE, JPEG
# Lossless and JPEG-LS the samples are held, and a recipe says how they were encoded: that is done again here, slowly.

RUN, UP_TO_THREE = rb"(.)\1{1,127}", rb"(?:(.)(?!\1(?:\1|\Z))){1,128}"

RLE_RULES = {
    "two": (RUN, rb"(?<=(.))\1|(?:(.)(?!\2)){1,128}", None),
    "three": (
        rb"(.)\1(?:\1{1,126}|\Z)|(?<=(.)(.))(?=\2)\3\2",
        rb"(?<=(.)(.))(?=\1)\2|(?:(.)(?!\3(?:\3|\Z))){1,128}",
        None,
    ),
    "two-apart": (RUN, UP_TO_THREE, None),
    "two-apart-128": (RUN, UP_TO_THREE, 128),
}
"""By name: what becomes a run, what is copied where none begins, how many bytes ahead the writer saw."""


def received_stream(pixel: dict[str, Any], recipe: dict[str, Any], stream: bytes, zstandard: Zstandard) -> bytes:
    """The code stream of one frame as it was received."""
    kind = recipe["kind"]
    if kind == "received":
        return stream
    if kind == "jpeg":
        return reconstructed_jpeg(stream)
    held = {**pixel, "planar": 0, "big_endian": 0}
    held.update((key, recipe[key]) for key in ("precision", "levels") if key in recipe)
    data = native_frame(held, pixel["ext"], stream, zstandard)
    width = pixel["allocated"] // 8
    if kind == "rle":
        return rle_stream(data, pixel["columns"], pixel["samples"], width, recipe)
    if kind not in ("ljpeg", "jpegls"):
        raise Damaged(f"unknown recipe {kind!r}")
    *headers, trailer = (base64.b64decode(text) for text in recipe["segments"])
    values = array.array({1: "B", 2: "H"}[width])
    values.frombytes(in_order(data, width, sys.byteorder))
    encoder = JpegScans(values, pixel["rows"], pixel["columns"], pixel["samples"])
    return b"".join(header + encoder.scan(header) for header in headers) + trailer


def reconstructed_jpeg(stream: bytes) -> bytes:
    """The JPEG that a JPEG XL file was made of."""
    try:
        import imagecodecs
    except ImportError:
        return reconstructed_by_program(stream)
    return bytes(imagecodecs.jpegxl_decode_jpeg(stream, numthreads=1))


def reconstructed_by_program(stream: bytes) -> bytes:
    """The same by ``djxl``."""
    program = shutil.which("djxl")
    if not program:
        raise Damaged("recompressed JPEG needs the module imagecodecs or the program djxl")
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "in.jxl"), Path(folder, "out.jpg")
        source.write_bytes(stream)
        words = [program, str(source), str(target)]
        done = subprocess.run(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, check=False)
        if done.returncode or not target.exists():
            raise Damaged(f"djxl refuses a frame: {done.stderr.decode(errors='replace')[-200:]}")
        return target.read_bytes()


def rle_stream(data: bytes, columns: int, samples: int, width: int, recipe: dict[str, Any]) -> bytes:
    """RLE Lossless (PS3.5 Annex G): a segment for each byte of each sample, the highest byte first."""
    if recipe["rule"] not in RLE_RULES:
        raise Damaged(f"unknown rule {recipe['rule']!r}")
    offsets = recipe["offsets"]
    out = bytearray(struct.pack("<16L", len(offsets), *offsets, *[0] * (15 - len(offsets))))
    for index, end in enumerate([*offsets[1:], recipe["length"]]):
        sample, byte = divmod(index, width)
        plane = data[sample * width + width - 1 - byte :: samples * width]
        for start in range(0, len(plane), columns):
            out += packbits(plane[start : start + columns], *RLE_RULES[recipe["rule"]])
        out += bytes(end - len(out))
    return bytes(out)


def packbits(row: bytes, run: bytes, literal: bytes, sees: int | None) -> bytes:
    """One row under PackBits."""
    runs, literals = re.compile(run, re.DOTALL), re.compile(literal, re.DOTALL)
    out, position = bytearray(), 0
    while position < len(row):
        found = runs.match(row, position)
        if found:
            end = found.end()
            out += bytes((257 + position - end, row[position]))
        else:
            copied = literals.match(row, position, min(position + (sees or len(row)), len(row)))
            end = copied.end() if copied else position + 1
            out += bytes((end - position - 1,)) + row[position:end]
        position = end
    return bytes(out)


class Bits:
    """Entropy-coded data in the making: the highest bit first; what is stuffed after a byte FF differs."""

    def __init__(self, bits_after_ff: int) -> None:
        self.out = bytearray()
        self.value = self.count = 0
        self.bits_after_ff = bits_after_ff  # JPEG-LS: 7, a zero bit is stuffed; JPEG: 0, a zero byte
        self.room = 8

    def put(self, value: int, count: int) -> None:
        """Append the low ``count`` bits of ``value``."""
        self.value = self.value << count | value
        self.count += count
        while self.count >= self.room:
            self.count -= self.room
            byte = self.value >> self.count
            self.value &= (1 << self.count) - 1
            self.out.append(byte)
            self.room = 8
            if byte == 0xFF:
                if self.bits_after_ff:
                    self.room = self.bits_after_ff
                else:
                    self.out.append(0)

    def finish(self, fill: int) -> bytes:
        """Fill the last byte with ones or zeros."""
        if self.count or self.room == 7:
            missing = self.room - self.count
            self.put(fill * ((1 << missing) - 1), missing)
        return bytes(self.out)


class JpegScans:
    """Encodes the scans of a JPEG Lossless or JPEG-LS code stream, of which it is given the headers in order."""

    def __init__(self, values: array.array[int], rows: int, columns: int, samples: int) -> None:
        self.rows, self.columns = rows, columns
        self.planes = [values[sample::samples] for sample in range(samples)]
        self.tables: dict[int, dict[int, tuple[int, int]]] = {}
        self.preset = (0, 0, 0, 0, 0)
        self.precision = self.restart = 0
        self.identifiers = b""
        self.is_jpegls = False

    def scan(self, header: bytes) -> bytes:
        """The entropy-coded data that follows ``header``."""
        position, content = 2 if header[:2] == b"\xff\xd8" else 0, b""
        while position + 4 <= len(header):
            marker, end = (
                header[position + 1],
                position + 2 + int.from_bytes(header[position + 2 : position + 4], "big"),
            )
            content, position = header[position + 4 : end], end
            if marker in (0xC3, 0xF7):
                self.precision, self.identifiers, self.is_jpegls = content[0], content[6::3], marker == 0xF7
            elif marker == 0xC4:
                self._define_tables(content)
            elif marker == 0xDD:
                self.restart = int.from_bytes(content, "big")
            elif marker == 0xF8 and content[0] == 1:
                self.preset = struct.unpack(">5H", content[1:11])
        count = content[0]
        chosen = [self.identifiers.index(content[1 + 2 * index]) for index in range(count)]
        mask = (1 << self.precision) - 1
        planes = [[value & mask for value in self.planes[index]] for index in chosen]
        if self.is_jpegls:
            near, interleave = content[1 + 2 * count], content[2 + 2 * count]
            coder = JpegLS((1 << self.precision) - 1, near, self.preset, count)
            return coder.encode(planes, self.rows, self.columns, by_pixel=interleave == 2)
        tables = [self.tables[content[2 + 2 * index] >> 4] for index in range(count)]
        predictor, low = content[1 + 2 * count], content[3 + 2 * count] & 15
        return self._lossless(planes, tables, predictor, low)

    def _define_tables(self, content: bytes) -> None:
        """Code and its length by symbol (ISO/IEC 10918-1 Annex C)."""
        while content:
            counts, table, code, position = content[1:17], {}, 0, 17
            for length, number in enumerate(counts, 1):
                for symbol in content[position : position + number]:
                    table.setdefault(symbol, (code, length))
                    code += 1
                position += number
                code <<= 1
            self.tables[content[0]] = table
            content = content[position:]

    def _lossless(
        self, planes: list[list[int]], tables: list[dict[int, tuple[int, int]]], predictor: int, low: int
    ) -> bytes:
        """ISO/IEC 10918-1 Annex H."""
        columns, out = self.columns, bytearray()
        step = self.restart // columns or self.rows
        for number, first in enumerate(range(0, self.rows, step)):
            bits = Bits(0)
            for row in range(first, min(first + step, self.rows)):
                for column in range(columns):
                    at = row * columns + column
                    for plane, table in zip(planes, tables):
                        difference = (
                            (plane[at] >> low) - self._predicted(plane, at, row > first, predictor, low)
                        ) & 65535
                        if difference > 32768:
                            difference -= 65536
                        size = abs(difference).bit_length()
                        bits.put(*table[size])
                        if 0 < size < 16:
                            bits.put(difference if difference > 0 else difference + (1 << size) - 1, size)
            out += (bytes((0xFF, 0xD0 + (number - 1) % 8)) if number else b"") + bits.finish(1)
        return bytes(out)

    def _predicted(self, plane: list[int], at: int, has_above: bool, predictor: int, low: int) -> int:
        columns = self.columns
        has_left = at % columns > 0
        if not has_above:
            return plane[at - 1] >> low if has_left else 1 << (self.precision - low - 1)
        over = plane[at - columns] >> low
        if not has_left:
            return over
        left, corner = plane[at - 1] >> low, plane[at - columns - 1] >> low
        return (
            left,
            over,
            corner,
            left + over - corner,
            left + ((over - corner) >> 1),
            over + ((left - corner) >> 1),
            (left + over) >> 1,
        )[predictor - 1]


class JpegLS:
    """Encodes one scan of JPEG-LS (ISO/IEC 14495-1 Annex A); names are those of the standard where it has some."""

    J = (0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 9, 10, 11, 12, 13, 14, 15)

    def __init__(self, maxval: int, near: int, preset: tuple[int, ...], components: int) -> None:
        self.maxval, self.near, self.step = preset[0] or maxval, near, 2 * near + 1
        defaults = self._default_thresholds()
        self.t1, self.t2, self.t3 = (given or usual for given, usual in zip(preset[1:4], defaults))
        self.reset = preset[4] or 64
        self.range = (self.maxval + 2 * near) // self.step + 1
        self.qbpp = (self.range - 1).bit_length()
        bpp = max(2, self.maxval.bit_length())
        self.limit = 2 * (bpp + max(8, bpp))
        self.a = [max(2, (self.range + 32) >> 6)] * 367
        self.n, self.b, self.c, self.nn = [1] * 367, [0] * 365, [0] * 365, [0, 0]
        self.run_index = [0] * components
        self.bits = Bits(7)

    def _default_thresholds(self) -> tuple[int, int, int]:
        """C.2.4.1.1.1."""
        maxval, near = self.maxval, self.near

        def within(value: int, least: int) -> int:
            return least if value > maxval or value < least else value

        if maxval >= 128:
            factor = (min(maxval, 4095) + 128) >> 8
            usual = (factor + 2 + 3 * near, factor * 4 + 3 + 5 * near, factor * 17 + 4 + 7 * near)
        else:
            factor = 256 // (maxval + 1)
            usual = (max(2, 3 // factor + 3 * near), max(3, 7 // factor + 5 * near), max(4, 21 // factor + 7 * near))
        t1 = within(usual[0], near + 1)
        t2 = within(usual[1], t1)
        return t1, t2, within(usual[2], t2)

    def encode(self, planes: list[list[int]], rows: int, columns: int, *, by_pixel: bool) -> bytes:
        """The scan; components line by line, or pixel by pixel."""
        # A sample before and one behind each line: those above at the edges (A.2.1).
        before = [[0] * (columns + 2) for _ in planes]
        for row in range(rows):
            lines = [[above[1], *plane[row * columns : (row + 1) * columns], 0] for plane, above in zip(planes, before)]
            for above in before:
                above[-1] = above[-2]
            if by_pixel:
                self._line(lines, before, 0)
            else:
                for component, (line, above) in enumerate(zip(lines, before)):
                    self._line([line], [above], component)
            before = lines
        return self.bits.finish(0)

    def _line(self, lines: list[list[int]], above: list[list[int]], component: int) -> None:
        at, end = 1, len(lines[0]) - 1
        while at < end:
            contexts = [self._context(line, over, at) for line, over in zip(lines, above)]
            if any(contexts):
                for line, over, context in zip(lines, above, contexts):
                    self._regular(line, over, at, context)
                at += 1
            else:
                at = self._run(lines, above, at, end, component)

    def _context(self, line: list[int], over: list[int], at: int) -> int:
        """Signed number of the context (A.3.3, A.3.4)."""
        return (
            81 * self._region(over[at + 1] - over[at])
            + 9 * self._region(over[at] - over[at - 1])
            + self._region(over[at - 1] - line[at - 1])
        )

    def _region(self, d: int) -> int:
        size = abs(d)
        if size <= self.near:
            return 0
        region = 1 if size < self.t1 else 2 if size < self.t2 else 3 if size < self.t3 else 4
        return region if d > 0 else -region

    def _regular(self, line: list[int], over: list[int], at: int, context: int) -> None:
        """A.4 to A.6."""
        left, up, corner = line[at - 1], over[at], over[at - 1]
        if corner >= max(left, up):
            predicted = min(left, up)
        elif corner <= min(left, up):
            predicted = max(left, up)
        else:
            predicted = left + up - corner
        sign, q = (1, context) if context >= 0 else (-1, -context)
        predicted = min(max(predicted + sign * self.c[q], 0), self.maxval)
        error, line[at] = self._quantised(line[at] - predicted, predicted, sign)
        a, n, b = self.a[q], self.n[q], self.b[q]
        k = 0
        while n << k < a:
            k += 1
        if self.near == 0 and k == 0 and 2 * b <= -n:
            mapped = 2 * error + 1 if error >= 0 else -2 * (error + 1)
        else:
            mapped = 2 * error if error >= 0 else -2 * error - 1
        self._golomb(mapped, k, self.limit)
        b += error * self.step
        a += abs(error)
        if n == self.reset:
            a, b, n = a >> 1, b >> 1, n >> 1
        n += 1
        if b <= -n:
            b = max(b + n, 1 - n)
            self.c[q] = max(self.c[q] - 1, -128)
        elif b > 0:
            b = min(b - n, 0)
            self.c[q] = min(self.c[q] + 1, 127)
        self.a[q], self.n[q], self.b[q] = a, n, b

    def _quantised(self, error: int, predicted: int, sign: int) -> tuple[int, int]:
        """The error in the sense of ``sign``, quantised and reduced, and the value that a decoder will have (A.4.4)."""
        error *= sign
        value = predicted + sign * error
        if self.near:
            error = (error + self.near) // self.step if error > 0 else -((self.near - error) // self.step)
            value = min(max(predicted + sign * error * self.step, 0), self.maxval)
        if error < 0:
            error += self.range
        if error >= (self.range + 1) >> 1:
            error -= self.range
        return error, value

    def _golomb(self, value: int, k: int, limit: int) -> None:
        """A.5.3."""
        high = value >> k
        if high < limit - self.qbpp - 1:
            self.bits.put(1, high + 1)
            self.bits.put(value & (1 << k) - 1, k)
        else:
            self.bits.put(1, limit - self.qbpp)
            self.bits.put(value - 1, self.qbpp)

    def _run(self, lines: list[list[int]], above: list[list[int]], at: int, end: int, component: int) -> int:
        """A.7; returns where to go on."""
        values, start = [line[at - 1] for line in lines], at
        while at < end and all(abs(line[at] - value) <= self.near for line, value in zip(lines, values)):
            for line, value in zip(lines, values):
                line[at] = value
            at += 1
        length, index = at - start, self.run_index[component]
        while length >= 1 << self.J[index]:
            self.bits.put(1, 1)
            length -= 1 << self.J[index]
            index = min(index + 1, 31)
        self.run_index[component] = index
        if at == end:
            if length:
                self.bits.put(1, 1)
            return at
        self.bits.put(length, self.J[index] + 1)
        for line, over in zip(lines, above):
            self._interruption(line, over, at, index, alone=len(lines) == 1)
        self.run_index[component] = max(index - 1, 0)
        return at + 1

    def _interruption(self, line: list[int], over: list[int], at: int, index: int, *, alone: bool) -> None:
        """A.7.2: the sample that ended the run."""
        left, up = line[at - 1], over[at]
        kind = int(alone and abs(left - up) <= self.near)
        sign = -1 if not kind and left > up else 1
        error, line[at] = self._quantised(line[at] - (left if kind else up), left if kind else up, sign)
        q = 365 + kind
        total = self.a[q] + (self.n[q] >> 1 if kind else 0)
        k = 0
        while self.n[q] << k < total:
            k += 1
        is_odd = (error > 0 and k == 0 and 2 * self.nn[kind] < self.n[q]) or (
            error < 0 and (k != 0 or 2 * self.nn[kind] >= self.n[q])
        )
        mapped = 2 * abs(error) - kind - int(is_odd)
        self._golomb(mapped, k, self.limit - self.J[index] - 1)
        self.nn[kind] += error < 0
        self.a[q] += (mapped + 1 - kind) >> 1
        if self.n[q] == self.reset:
            self.a[q], self.n[q], self.nn[kind] = self.a[q] >> 1, self.n[q] >> 1, self.nn[kind] >> 1
        self.n[q] += 1


# ---------------------------------------------------------------------------------------------- packs


class Pack:
    """One pack, opened."""

    def __init__(self, opened: zipfile.ZipFile, zstandard: Zstandard, manifest: dict[str, Any]) -> None:
        self.zip = opened
        self.zstandard = zstandard
        self.manifest = manifest
        self.prefix = ""
        if self.manifest["leanpacs"] != 1:
            raise Damaged(f"the pack is of format {self.manifest['leanpacs']}; this program reads format 1")

    def preface(self) -> bytes:
        """Preamble and file meta as received; empty when there were none."""
        wanted, start = self.manifest.get("preface", 0), b""
        if wanted:
            for piece in self._head_chunks():
                start += piece
                if len(start) >= wanted:
                    break
        return start[:wanted]

    def data_set(self) -> Iterator[bytes]:
        yield from self._head()
        if self.manifest["form"] == "frames":
            yield from self._frames()
        elif self.manifest["form"] in ("streams", "recoded"):
            yield from self._streams()
        elif self.manifest["form"] != "whole":
            raise Damaged(f"unknown form {self.manifest['form']!r}")
        if self.manifest["form"] != "whole" and self._has("tail.zst"):
            yield self._unpacked("tail.zst")  # begins with what followed the last frame in Pixel Data

    def _head(self) -> Iterator[bytes]:
        skip = self.manifest.get("preface", 0)
        for piece in self._head_chunks():
            yield piece[skip:]
            skip = max(0, skip - len(piece))

    def _head_chunks(self) -> Iterator[bytes]:
        with self.zip.open("head.zst") as entry:
            yield from self.zstandard.chunks(entry)

    def _has(self, name: str) -> bool:
        return name in self.zip.namelist()

    def _unpacked(self, name: str) -> bytes:
        with self.zip.open(name) as entry:
            return self.zstandard.all(entry)

    def _entries(self, extension: str) -> Iterator[str]:
        for number in range(1, self.manifest["pixel"]["frames"] + 1):
            yield f"{self.prefix}frames/{number:05d}.{extension}"

    def _frames(self) -> Iterator[bytes]:
        pixel = self.manifest["pixel"]
        for name in self._entries(pixel["ext"]):
            yield native_frame(pixel, pixel["ext"], self.zip.read(name), self.zstandard)

    def _received(self) -> Iterator[bytes]:
        """The received code streams, frame by frame."""
        pixel = self.manifest["pixel"]
        if self.manifest["form"] == "streams":
            yield from (self.zip.read(name) for name in self._entries(pixel["codec"]))
            return
        recipes = self.manifest["recipes"]
        for number, index in enumerate(self.manifest.get("recipe_of", [0] * pixel["frames"]), 1):
            recipe = recipes[index]
            entry = f"{self.prefix}frames/{number:05d}.{recipe.get('ext', pixel['ext'])}"
            yield received_stream(pixel, recipe, self.zip.read(entry), self.zstandard)

    def _streams(self) -> Iterator[bytes]:
        """Item headers, offset table and delimiter from the skeleton, payloads of fragments from the streams."""
        skeleton = self._unpacked("layout.zst")
        payload = _Payload(self._received())
        position, is_table = 0, True
        while skeleton[position : position + 4] == b"\xfe\xff\x00\xe0":
            (length,) = struct.unpack_from("<L", skeleton, position + 4)
            end = position + 8 + (length if is_table else 0)
            yield skeleton[position:end]
            if not is_table:
                yield payload.take(length)
            position, is_table = end, False
        yield skeleton[position:]


class Member(Pack):
    """One instance of a series pack: heads, layouts and tails are cut out of blocks that all share."""

    def __init__(
        self, opened: zipfile.ZipFile, zstandard: Zstandard, manifest: dict[str, Any], prefix: str, blocks: Blocks
    ) -> None:
        super().__init__(opened, zstandard, manifest)
        self.prefix, self.blocks = prefix, blocks

    def _head_chunks(self) -> Iterator[bytes]:
        yield self._unpacked("head.zst")

    def _has(self, name: str) -> bool:
        return name in self.manifest["pieces"]

    def _unpacked(self, name: str) -> bytes:
        number, offset, length = self.manifest["pieces"][name]
        piece = self.blocks.content(number)[offset : offset + length]
        if len(piece) != length:
            raise Damaged(f"a block of the series pack ends within {name}")
        return piece


class Blocks:
    """The blocks of a series pack; the one used last is remembered."""

    def __init__(self, opened: zipfile.ZipFile, zstandard: Zstandard) -> None:
        self.zip, self.zstandard = opened, zstandard
        self.number, self.last = 0, b""

    def content(self, number: int) -> bytes:
        """Content of a block."""
        if number != self.number:
            with self.zip.open(f"heads/{number:05d}.zst") as entry:
                self.number, self.last = number, self.zstandard.all(entry)
        return self.last


def packs_in(opened: zipfile.ZipFile, zstandard: Zstandard) -> Iterator[Pack]:
    """The instance of a pack, or all instances of a series pack."""
    if "series.zst" not in opened.namelist():
        yield Pack(opened, zstandard, json.loads(opened.read("manifest.json")))
        return
    with opened.open("series.zst") as entry:
        manifests = json.loads(zstandard.all(entry))
    blocks = Blocks(opened, zstandard)
    for place, manifest in enumerate(manifests, 1):
        yield Member(opened, zstandard, manifest, f"{place:05d}/", blocks)


class _Payload:
    """The streams of all frames one after the other, cut into fragments."""

    def __init__(self, streams: Iterator[bytes]) -> None:
        self.streams, self.stream, self.position = streams, b"", 0

    def take(self, length: int) -> bytes:
        """The next ``length`` bytes."""
        parts = []
        while length:
            if self.position == len(self.stream):
                self.stream, self.position = next(self.streams, b""), 0
                if not self.stream:
                    raise Damaged("the frames are shorter than their fragments")
            part = self.stream[self.position : self.position + length]
            self.position += len(part)
            length -= len(part)
            parts.append(part)
        return b"".join(parts)


def element(group: int, number: int, vr: bytes, value: bytes) -> bytes:
    """A data element in Explicit VR Little Endian (PS3.5 7.1.2)."""
    value += b"\0" * (len(value) % 2)
    length = struct.pack("<2xL" if vr == b"OB" else "<H", len(value))
    return struct.pack("<2H", group, number) + vr + length + value


def file_meta(manifest: dict[str, Any]) -> bytes:
    """Preamble and file meta information for a data set that came without (PS3.10 7.1)."""
    texts = ((2, manifest["class"]), (3, manifest["instance"]), (16, manifest["syntax"]), (18, IMPLEMENTATION))
    body = element(2, 1, b"OB", b"\0\1") + b"".join(element(2, n, b"UI", text.encode("ascii")) for n, text in texts)
    return bytes(128) + b"DICM" + element(2, 0, b"UL", struct.pack("<L", len(body))) + body


# -------------------------------------------------------------------------------------------- restoring


class Restorer:
    """Restores packs and landed files into a folder, and counts."""

    def __init__(self, out: Path, zstandard: Zstandard) -> None:
        self.out, self.zstandard = out, zstandard
        self.restored = self.copied = 0
        self.failed: list[Path] = []

    def take(self, path: Path) -> None:
        """Restore a pack, or copy a file that is not one; a failure is noted and told of."""
        try:
            with path.open("rb") as file:
                start = file.read(4)
            if start in ZIP_START:
                self._restore(path)
            else:
                self._copy(path)
                self.copied += 1
        except Exception as error:
            self.failed.append(path)
            print(f"FAILED {path}: {str(error) or type(error).__name__}", file=sys.stderr)

    def _restore(self, path: Path) -> None:
        with zipfile.ZipFile(path) as opened:
            for pack in packs_in(opened, self.zstandard):
                self._restore_one(path, pack)
                self.restored += 1

    def _restore_one(self, path: Path, pack: Pack) -> None:
        folder = self.out / safe(pack.manifest["study"]) / safe(pack.manifest["series"])
        folder.mkdir(parents=True, exist_ok=True)
        partial = folder / f"{path.name[:64]}.partial"
        try:
            problem = self._write(pack, partial)
            if problem:
                kept = partial.replace(partial.with_suffix(".mismatch"))
                raise Damaged(f"{problem}; see {kept}")
            target = folder / f"{safe(pack.manifest['instance'])}.dcm"
            partial.replace(self._free_name(target, pack.manifest["sha256"]))
        finally:
            partial.unlink(missing_ok=True)

    @staticmethod
    def _write(pack: Pack, path: Path) -> str:
        """Write the file; say what is wrong with it, if anything."""
        manifest, preface = pack.manifest, pack.preface()
        data_set, whole, length = hashlib.sha256(), hashlib.sha256(preface), 0
        with path.open("wb") as file:
            file.write(preface or file_meta(manifest))
            for piece in pack.data_set():
                file.write(piece)
                data_set.update(piece)
                whole.update(piece)
                length += len(piece)
        if length != manifest["length"] or data_set.hexdigest() != manifest["sha256"]:
            return f"the data set has {length} bytes and SHA-256 {data_set.hexdigest()}, not those received"
        if preface and whole.hexdigest() != manifest["file_sha256"]:
            return "the file has another SHA-256 than the one received"
        return ""

    def _copy(self, path: Path) -> None:
        digest = hashlib.sha256()
        with path.open("rb") as file:
            while piece := file.read(CHUNK):
                digest.update(piece)
        if re.fullmatch("[0-9a-f]{64}", path.name) and digest.hexdigest() != path.name:
            raise Damaged("its bytes are not those that its name says")
        folder = self.out / "landed"
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, folder / f"{path.name}.dcm")

    @staticmethod
    def _free_name(path: Path, digest: str) -> Path:
        """Where several forms of one instance were kept, the later ones have the digest in their name."""
        return path if not path.exists() else path.with_name(f"{path.stem}_{digest[:16]}.dcm")


def safe(uid: str) -> str:
    """A UID as a name of a file."""
    return uid if re.fullmatch(r"[0-9][0-9.]{0,63}", uid) else hashlib.sha256(uid.encode()).hexdigest()


def roots_of(given: Path) -> list[Path]:
    """The stores of an archive's data folder (such as ``hot``), or the folder given itself."""
    stores = sorted(path.parent for path in given.glob("*/blobs") if path.is_dir())
    return [given] if (given / "blobs").is_dir() or not stores else stores


def files_of(root: Path) -> list[Path]:
    """Files that may be packs: of a store, of a folder, or the one given."""
    if root.is_file():
        return [root]
    start = root / "blobs" if (root / "blobs").is_dir() else root
    files = (path for path in sorted(start.rglob("*")) if path.is_file())
    return [path for path in files if "dictionaries" not in path.relative_to(start).parts]


def known_folder(root: Path) -> Path:
    """Where the dictionaries of a store, folder or pack are."""
    return (root if root.is_dir() else root.parent) / "dictionaries"


def dictionaries_of(folder: Path) -> dict[int, Path]:
    """Dictionaries by number: the second four bytes of each (RFC 8878, section 5)."""
    found = {}
    for path in sorted(folder.glob("*.dict")):
        with path.open("rb") as file:
            start = file.read(8)
        if start[:4] == b"\x37\xa4\x30\xec":
            found[int.from_bytes(start[4:8], "little")] = path
    return found


def main(arguments: list[str] | None = None) -> int:
    """Restore; return the exit code."""
    parser = argparse.ArgumentParser(description="Turn a LeanPACS store back into DICOM files.")
    parser.add_argument("store", type=Path, help="store, data folder, folder with packs, or one pack")
    parser.add_argument("out", type=Path, help="folder for the DICOM files")
    parser.add_argument("--dictionaries", type=Path, help="folder of *.dict files; else the one in the store")
    chosen = parser.parse_args(arguments)
    if not chosen.store.exists():
        parser.error(f"{chosen.store} does not exist")
    roots = roots_of(chosen.store)
    folders = [chosen.dictionaries] if chosen.dictionaries else [known_folder(root) for root in roots]
    dictionaries = {number: path for folder in folders for number, path in dictionaries_of(folder).items()}
    restorer = Restorer(chosen.out, Zstandard(dictionaries))
    for path in (path for root in roots for path in files_of(root)):
        restorer.take(path)
    print(f"{restorer.restored} restored and compared, {restorer.copied} landed files copied, ", end="")
    print(f"{len(restorer.failed)} failed; {len(dictionaries)} dictionaries")
    return 1 if restorer.failed or not (restorer.restored or restorer.copied) else 0


if __name__ == "__main__":
    sys.exit(main())
