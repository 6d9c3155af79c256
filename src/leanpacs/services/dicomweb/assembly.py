"""One instance put together from its metadata and its bulk data.

References
----------
PS3.18 10.5.1.4 (request payload), F.2 (DICOM JSON Model), 8.7.3.3 (encoding of bulk data); PS3.5 A.4.
"""

from __future__ import annotations

import base64
import binascii
import errno
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final

import orjson

from leanpacs.dicom import uids
from leanpacs.dicom.encapsulation import encapsulate
from leanpacs.dicom.reencode import EXPLICIT_LITTLE, element_header
from leanpacs.dicom.write import file_meta
from leanpacs.errors import DicomError, StoreFull
from leanpacs.services.dicomweb import codestreams, media

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

_COPY_BYTES: Final = 1 << 20
_LARGEST_VALUE_BYTES: Final = 256 << 20
"""Of bulk data other than Pixel Data, which are held in memory."""
_LARGEST_NATIVE_BYTES: Final = 0xFFFFFFFE
_HEADER_BYTES: Final = 1 << 16
_PIXEL_DATA: Final = "7FE00010"
_PIXELS: Final = (_PIXEL_DATA, "7FE00008", "7FE00009")
_NEEDED: Final = {
    "00080016": "SOPClassUID",
    "00080018": "SOPInstanceUID",
    "0020000D": "StudyInstanceUID",
    "0020000E": "SeriesInstanceUID",
}
_CHARACTER_SET: Final = "00080005"
_TRANSFER_SYNTAX: Final = "00020010"
_NUMBER_OF_FRAMES: Final = "00280008"

Model = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Bulk:
    """Bulk data that came in a part of its own: file, length in bytes, media type, transfer syntax ('': not named)."""

    path: Path
    size_bytes: int
    media_type: str
    transfer_syntax: str

    def chunks(self) -> Iterator[bytes]:
        """The content, piece by piece."""
        with self.path.open("rb") as file:
            while piece := file.read(_COPY_BYTES):
                yield piece


@dataclass(frozen=True, slots=True)
class _Pixels:
    """Value of Pixel Data: VR, and either native content or code streams."""

    tag: str
    vr: str
    transfer_syntax: str
    parts: Sequence[Bulk | bytes]

    @property
    def encapsulated(self) -> bool:
        return uids.transfer_syntax(self.transfer_syntax).encapsulated


def assembled(model: Model, bulk: Mapping[str, Sequence[Bulk]], folder: Path, largest_bytes: int) -> Path:
    """Write an instance as a PS3.10 file.

    Text is UTF-8 in the file where it is not ASCII. Pixels are written as they came, in Explicit VR Little Endian or
    as the code streams they are; Image Pixel attributes that the metadata leave out are those of the code stream.

    Parameters
    ----------
    model : dict
        DICOM JSON Model object.
    bulk : mapping
        Content-Location to bulk data; several are the frames of an image.
    folder : Path
        Where the file is made.
    largest_bytes : int
        Larger instances are refused.

    Raises
    ------
    DicomError
        The metadata are not understood, or bulk data that they name are missing.
    StoreFull
        There is no room.
    """
    model = {tag.upper(): element for tag, element in model.items() if isinstance(element, dict)}
    missing = [keyword for tag, keyword in _NEEDED.items() if not _first(model, tag)]
    if missing:
        raise DicomError(f"the metadata have no {', '.join(missing)}")
    pixels = _pixels(model, bulk)
    if pixels is not None and pixels.encapsulated:
        _complete(model, pixels)
    before, after = _encoded(model, bulk)
    syntax = pixels.transfer_syntax if pixels else uids.EXPLICIT_LE
    preface = file_meta(str(_first(model, "00080016")), str(_first(model, "00080018")), syntax)
    size = sum(part.size_bytes for part in pixels.parts if isinstance(part, Bulk)) if pixels else 0
    if size + len(before) + len(after) > largest_bytes:
        raise DicomError(f"the instance is larger than the {largest_bytes} bytes this archive takes")
    return _written(folder, [preface, before], pixels, after)


def _pixels(model: Model, bulk: Mapping[str, Sequence[Bulk]]) -> _Pixels | None:
    tag = next((tag for tag in _PIXELS if tag in model), None)
    if tag is None:
        return None
    element = model[tag]
    vr = element.get("vr") if element.get("vr") in ("OB", "OW", "OF", "OD") else "OW"
    if "BulkDataURI" not in element:
        return _Pixels(tag, vr, uids.EXPLICIT_LE, [_inline(element)])
    parts = _referred(element, bulk)
    return _Pixels(tag, vr, _syntax(model, parts), parts)


def _syntax(model: Model, parts: Sequence[Bulk]) -> str:
    """Transfer syntax: as the part names it, else as its code stream is, else what the metadata say."""
    first = parts[0]
    if first.transfer_syntax:
        return first.transfer_syntax
    if first.media_type != media.OCTETS:
        return codestreams.syntax_of(first.media_type, _beginning(first))
    declared = _first(model, _TRANSFER_SYNTAX)
    if isinstance(declared, str) and uids.transfer_syntax(declared).encapsulated:
        return declared
    return uids.EXPLICIT_LE


def _beginning(part: Bulk) -> bytes:
    """Enough of a code stream for its headers."""
    with part.path.open("rb") as file:
        return file.read(_HEADER_BYTES)


def _complete(model: Model, pixels: _Pixels) -> None:
    """Add Image Pixel attributes that the metadata leave out (PS3.18 10.5.1.4)."""
    first = pixels.parts[0]
    if isinstance(first, Bulk) and "00280010" not in model:
        for tag, element in codestreams.image_pixel(pixels.transfer_syntax, _beginning(first)).items():
            model.setdefault(tag, element)
    if len(pixels.parts) > 1 and _NUMBER_OF_FRAMES not in model:
        model[_NUMBER_OF_FRAMES] = {"vr": "IS", "Value": [len(pixels.parts)]}


def _encoded(model: Model, bulk: Mapping[str, Sequence[Bulk]]) -> tuple[bytes, bytes]:
    """Elements before and after Pixel Data, in Explicit VR Little Endian."""
    from pydicom.dataset import Dataset

    kept = {tag: element for tag, element in model.items() if tag not in _PIXELS and not tag.startswith("0002")}
    _without_character_sets(kept)
    if not _is_ascii(kept):
        kept[_CHARACTER_SET] = {"vr": "CS", "Value": ["ISO_IR 192"]}

    def value(_tag: str, _vr: str, uri: str) -> bytes:
        parts = _referred({"BulkDataURI": uri}, bulk)
        if sum(part.size_bytes for part in parts) > _LARGEST_VALUE_BYTES:
            raise DicomError(f"{uri} is larger than {_LARGEST_VALUE_BYTES} bytes, and no Pixel Data")
        return b"".join(part.path.read_bytes() for part in parts)

    try:
        ds = Dataset.from_json(kept, bulk_data_uri_handler=value)
        return _bytes_of(ds[:0x7FE00008]), _bytes_of(ds[0x7FE00011:])
    except DicomError:
        raise
    except Exception as error:
        raise DicomError(f"the metadata are not understood: {error}") from error


def _bytes_of(ds: Dataset) -> bytes:
    from pydicom.filebase import DicomBytesIO
    from pydicom.filewriter import write_dataset

    file = DicomBytesIO()
    file.is_implicit_VR, file.is_little_endian = False, True
    write_dataset(file, ds)
    return file.getvalue()


def _without_character_sets(model: Model, depth: int = 0) -> None:
    """Take away those of sequence items: all text of JSON and XML is Unicode, and one set stands for all (F.2.2)."""
    for element in model.values():
        if element.get("vr") != "SQ":
            continue
        for item in element.get("Value") or []:
            if isinstance(item, dict) and depth < 64:
                item.pop(_CHARACTER_SET, None)
                _without_character_sets(item, depth + 1)


def _is_ascii(model: Model) -> bool:
    return orjson.dumps(model).isascii()


def _referred(element: Mapping[str, Any], bulk: Mapping[str, Sequence[Bulk]]) -> Sequence[Bulk]:
    uri = element["BulkDataURI"]
    found = bulk.get(uri) if isinstance(uri, str) else None
    if not found:
        raise DicomError(f"no part of the request has the Content-Location {uri}")
    return found


def _inline(element: Mapping[str, Any]) -> bytes:
    try:
        return base64.b64decode(element.get("InlineBinary") or "", validate=True)
    except (binascii.Error, TypeError, ValueError) as error:
        raise DicomError("InlineBinary is not base64") from error


def _written(folder: Path, before: Sequence[bytes], pixels: _Pixels | None, after: bytes) -> Path:
    descriptor, name = tempfile.mkstemp(prefix="stow-", suffix=".part", dir=folder)
    path = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            for piece in before:
                file.write(piece)
            if pixels is not None:
                _write_pixels(file, pixels)
            file.write(after)
    except OSError as error:
        path.unlink(missing_ok=True)
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise StoreFull(f"the spool has no room: {error.strerror}") from error
        raise
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    return path


def _write_pixels(file: BinaryIO, pixels: _Pixels) -> None:
    tag = int(pixels.tag, 16)
    if pixels.encapsulated:
        file.write(element_header(tag, "OB", None, EXPLICIT_LITTLE))
        for piece in encapsulate(map(_all_of, pixels.parts), lengths=[_length(part) for part in pixels.parts]):
            file.write(piece)
        return
    length = sum(map(_length, pixels.parts))
    if length > _LARGEST_NATIVE_BYTES:
        raise DicomError(f"{length} bytes are too many for native Pixel Data; send code streams")
    file.write(element_header(tag, pixels.vr, length + length % 2, EXPLICIT_LITTLE))
    for part in pixels.parts:
        for piece in part.chunks() if isinstance(part, Bulk) else (part,):
            file.write(piece)
    file.write(b"\0" * (length % 2))


def _length(part: Bulk | bytes) -> int:
    return part.size_bytes if isinstance(part, Bulk) else len(part)


def _all_of(part: Bulk | bytes) -> bytes:
    return part.path.read_bytes() if isinstance(part, Bulk) else part


def _first(model: Model, tag: str) -> object:
    element = model.get(tag)
    values = element.get("Value") if isinstance(element, dict) else None
    return values[0] if isinstance(values, list) and values else None
