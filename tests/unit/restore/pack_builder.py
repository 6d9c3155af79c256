"""Packs made by hand from docs/reference/pack-format.md, without the archive that writes them."""

from __future__ import annotations

import hashlib
import io
import json
import struct
import zipfile
import zlib
from collections.abc import Mapping
from typing import Any

import imagecodecs
import jpeg_ls
import numpy as np
import zstandard
from numpy.typing import NDArray

STUDY, SERIES, INSTANCE = "1.2.3.1", "1.2.3.1.2", "1.2.3.1.2.3"
EXPLICIT_LE, EXPLICIT_BE, DEFLATED_LE = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99"
JPEG_BASELINE = "1.2.840.10008.1.2.4.50"
HEAD = b"\x08\x00\x60\x00CS\x02\x00OT" * 20 + b"\xe0\x7f\x10\x00OW\0\0"
TAIL = b"\xfc\xff\xfc\xffOB\0\0\x04\0\0\0\0\0\0\0"
PREFACE = bytes(128) + b"DICM" + b"\x02\x00\x10\x00UI\x14\x001.2.840.10008.1.2.1\0"


def zst(data: bytes, dictionary: bytes | None = None) -> bytes:
    """One Zstandard frame."""
    known = zstandard.ZstdCompressionDict(dictionary) if dictionary else None
    return zstandard.ZstdCompressor(level=5, dict_data=known, write_checksum=True).compress(data)


def manifest(data_set: bytes, preface: bytes = b"", **facts: Any) -> dict[str, Any]:
    """A manifest with everything that every manifest has."""
    made: dict[str, Any] = {
        "leanpacs": 1,
        "study": STUDY,
        "series": SERIES,
        "instance": INSTANCE,
        "class": "1.2.840.10008.5.1.4.1.1.7",
        "syntax": EXPLICIT_LE,
        "length": len(data_set),
        "sha256": hashlib.sha256(data_set).hexdigest(),
        "received": {"at": "2025-01-01T00:00:00+00:00", "from": "BUILDER", "door": "import"},
    }
    if preface:
        made |= {"preface": len(preface), "file_sha256": hashlib.sha256(preface + data_set).hexdigest()}
    return made | facts


def pack(facts: dict[str, Any], entries: Mapping[str, bytes]) -> bytes:
    """A ZIP of stored entries, the manifest last."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as made:
        for name, content in {**entries, "manifest.json": json.dumps(facts).encode()}.items():
            made.writestr(zipfile.ZipInfo(name), content)
    return file.getvalue()


def whole(data_set: bytes, preface: bytes = b"", dictionary: bytes | None = None, **facts: Any) -> bytes:
    """A pack of form ``whole``."""
    entries = {"head.zst": zst(preface + data_set, dictionary)}
    return pack(manifest(data_set, preface, form="whole", **facts), entries)


def deflated(data_set: bytes) -> tuple[bytes, bytes]:
    """A pack of a deflated data set, and the bytes as received."""
    packer = zlib.compressobj(6, zlib.DEFLATED, -15, 8, 0)
    received = packer.compress(data_set) + packer.flush() + b"\0"
    facts = manifest(received, PREFACE, form="whole", syntax=DEFLATED_LE)
    return pack(facts, {"head.zst": zst(PREFACE + received)}), received


def pixel(samples: NDArray[Any], codec: str, extension: str, **facts: Any) -> dict[str, Any]:
    """The record of frames of shape (frames, rows, columns[, samples])."""
    made = {
        "codec": codec,
        "ext": extension,
        "effort": 1,
        "precision": 8 * samples.itemsize,
        "library": "by hand",
        "frames": len(samples),
        "rows": samples.shape[1],
        "columns": samples.shape[2],
        "samples": samples.shape[3] if samples.ndim == 4 else 1,
        "allocated": 8 * samples.itemsize,
        "stored": 8 * samples.itemsize,
        "high": 8 * samples.itemsize - 1,
        "signed": int(samples.dtype.kind == "i"),
        "planar": 0,
        "photometric": "RGB" if samples.ndim == 4 else "MONOCHROME2",
        "kind": "float" if samples.dtype.kind == "f" else "integer",
        "big_endian": 0,
        "trailing": 0,
        "full_chroma": 0,
    }
    return made | facts


def laid_out(samples: NDArray[Any], facts: Mapping[str, Any]) -> bytes:
    """Native pixel bytes of all frames."""
    if facts["planar"]:
        samples = np.moveaxis(samples, -1, 1)
    order = ">" if facts["big_endian"] else "<"
    return samples.astype(samples.dtype.newbyteorder(order)).tobytes()


def code_stream(samples: NDArray[Any], facts: Mapping[str, Any]) -> bytes:
    """One frame, encoded as the format page says."""
    precision, codec = facts["precision"], facts["codec"]
    if "levels" in facts:
        samples = np.searchsorted(np.cumsum(facts["levels"]), samples).astype(np.uint16)
        facts = {**facts, "signed": 0}
    if codec == "zstd":
        return zst(laid_out(samples[np.newaxis], facts))
    if codec == "delta":
        pixels = samples.reshape(*samples.shape[:2], -1).astype(np.int64)
        steps = np.diff(pixels, axis=1, prepend=0) + 128
        return zst(
            steps.astype(f"<u{facts['allocated'] // 8}").view(np.uint8).reshape(pixels[..., 0].size, -1).T.tobytes()
        )
    if codec in ("jpegxl", "jpegls"):
        unsigned = np.uint8 if precision <= 8 else np.uint16
        offset = 1 << (precision - 1) if facts["signed"] else 0
        values = (samples.astype(np.int32) + offset).astype(unsigned)
        if codec == "jpegxl":
            return bytes(imagecodecs.jpegxl_encode(values, lossless=True, effort=3, bitspersample=precision))
        if 8 < precision < 16:
            return bytes(jpeg_ls.encode_buffer(values.tobytes(), *values.shape, 1, precision))
        return bytes(imagecodecs.jpegls_encode(values, out=4 * values.nbytes + 4096))
    if precision <= 8:
        samples = samples.astype(np.int8 if facts["signed"] else np.uint8)
    if codec == "htj2k":
        return bytes(imagecodecs.htj2k_encode(samples, reversible=True, planar=False))
    return bytes(imagecodecs.jpeg2k_encode(samples, level=0, codecformat="j2k", reversible=True, mct=False))


def frames(samples: NDArray[Any], codec: str, extension: str, **facts: Any) -> tuple[bytes, bytes]:
    """A pack of form ``frames``, and the data set as received."""
    made = pixel(samples, codec, extension, **facts)
    value = laid_out(samples, made) + b"\xaa" * made["trailing"]
    head = HEAD + struct.pack("<L", len(value))
    data_set = head + value + TAIL
    entries = {f"frames/{n:05d}.{extension}": code_stream(one, made) for n, one in enumerate(samples, 1)}
    entries |= {"head.zst": zst(PREFACE + head), "tail.zst": zst(b"\xaa" * made["trailing"] + TAIL)}
    syntax = EXPLICIT_BE if made["big_endian"] else EXPLICIT_LE
    little = laid_out(samples, made | {"big_endian": 0})
    record = manifest(
        data_set,
        PREFACE,
        form="frames",
        syntax=syntax,
        pixel=made,
        samples_sha256=hashlib.sha256(little).hexdigest(),
    )
    return pack(record, entries), data_set


def item(payload: bytes) -> bytes:
    """Header of an item."""
    return b"\xfe\xff\x00\xe0" + struct.pack("<L", len(payload))


def streams(fragments: list[list[bytes]], table: bytes = b"") -> tuple[bytes, bytes]:
    """A pack of form ``streams`` of frames in fragments, and the data set as received."""
    head = HEAD + b"\xff\xff\xff\xff"
    delimiter = b"\xfe\xff\xdd\xe0\0\0\0\0"
    flat = [fragment for frame in fragments for fragment in frame]
    value = item(table) + table + b"".join(item(one) + one for one in flat) + delimiter
    skeleton = item(table) + table + b"".join(map(item, flat)) + delimiter
    data_set = head + value + TAIL
    entries = {f"frames/{n:05d}.jpg": b"".join(frame) for n, frame in enumerate(fragments, 1)}
    entries |= {"head.zst": zst(head), "layout.zst": zst(skeleton), "tail.zst": zst(TAIL)}
    facts = manifest(
        data_set,
        form="streams",
        syntax=JPEG_BASELINE,
        pixel={"frames": len(fragments), "codec": "jpg"},
        fragments=[len(frame) for frame in fragments],
    )
    return pack(facts, entries), data_set
