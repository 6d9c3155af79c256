"""Found files opened for reading, ZIP members included, and what their headers tell."""

from __future__ import annotations

import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO, Final, cast

from leanpacs.archive.intake.importing import DICOM_SUFFIXES, MEDIA_STORAGE_DIRECTORY, Found
from leanpacs.codecs import registry
from leanpacs.codecs.samples import decoded_spec
from leanpacs.dicom import uids
from leanpacs.dicom.attributes import index
from leanpacs.dicom.frames import FrameSpec, frame_spec
from leanpacs.dicom.layout import Layout
from leanpacs.errors import DicomError, NotDicom
from leanpacs.refs import Digest
from leanpacs.transcode.content import Content, open_content

IN_MEMORY: Final = 64 << 20
"""ZIP members and inflated data sets up to this many bytes are held in memory, larger ones in a temporary file."""

LARGEST_INFLATED: Final = 4 << 30
_NOBODY: Final = Digest(bytes(32))


@dataclass(frozen=True, slots=True)
class Stratum:
    """What instances of one kind have in common; '' where an attribute is absent."""

    modality: str
    sop_class: str
    manufacturer: str
    transfer_syntax: str


@dataclass(frozen=True, slots=True)
class Looked:
    """What the headers of a file tell.

    Parameters
    ----------
    found : Found
        The file.
    stratum : Stratum or None
        None when it is no instance; then ``skipped`` or ``problem`` says why.
    study : str
        Study Instance UID, or one derived.
    found_bytes, raw_bytes, raw_pixel_bytes : int
        The file; the same with native pixels; those alone. What no decoder reads counts as it was found.
    problem : str
        Why it cannot be measured in full; it may still be an instance.
    """

    found: Found
    stratum: Stratum | None = None
    study: str = ""
    found_bytes: int = 0
    raw_bytes: int = 0
    raw_pixel_bytes: int = 0
    skipped: str = ""
    problem: str = ""


@contextmanager
def opened(found: Found) -> Iterator[BinaryIO]:
    """Open a found file; a ZIP member is copied out first, for it cannot be read in any order.

    Raises
    ------
    OSError, zipfile.BadZipFile, RuntimeError, NotImplementedError
        If it cannot be read (encrypted and oddly compressed members included).
    """
    if not found.member:
        with found.path.open("rb") as file:
            yield file
        return
    with tempfile.SpooledTemporaryFile(max_size=IN_MEMORY) as copy, _zip(found.path).open(found.member) as member:
        shutil.copyfileobj(member, copy, 1 << 20)
        copy.seek(0)
        yield cast("BinaryIO", copy)


@lru_cache(maxsize=1)
def _zip(path: Path) -> zipfile.ZipFile:
    """The archive that members are read from; its directory is read once, not for each member."""
    return zipfile.ZipFile(path)


@contextmanager
def content_of(reader: BinaryIO) -> Iterator[Content]:
    """Find the parts of an opened file; a deflated data set is inflated.

    Raises
    ------
    DicomError
        If it does not read as DICOM.
    """
    with open_content(reader, None, spool=Path(tempfile.gettempdir()), limit_bytes=LARGEST_INFLATED) as content:
        yield content


def look(found: Found) -> Looked:
    """Read the headers of a file; never raises for what is in it."""
    try:
        with opened(found) as reader:
            prefixed = reader.read(132)[128:] == b"DICM"
            try:
                with content_of(reader) as content:
                    return _looked(found, content.layout, reader.seek(0, 2))
            except NotDicom as error:
                if prefixed or _is_called_dicom(found):
                    return Looked(found, problem=f"not readable as DICOM: {error}")
                return Looked(found, skipped="not DICOM")
            except DicomError as error:
                return Looked(found, problem=str(error))
    except (OSError, zipfile.BadZipFile, RuntimeError, NotImplementedError, EOFError) as error:
        return Looked(found, problem=f"cannot be read: {error}")


def _is_called_dicom(found: Found) -> bool:
    suffix = Path(found.member or found.path).suffix.lower()
    return suffix in DICOM_SUFFIXES - {""}


def _looked(found: Found, layout: Layout, found_bytes: int) -> Looked:
    media = layout.elements.get(0x00020002)
    if media is not None and media.value.rstrip(b"\0 ") == MEDIA_STORAGE_DIRECTORY.encode():
        return Looked(found, skipped="a directory of other files")
    known = index(layout, _NOBODY if 0x0020000D in layout.elements else Digest.of(str(found.name).encode()))
    stratum = Stratum(known.series.modality, known.sop_class, known.series.manufacturer.strip(), layout.transfer_syntax)
    pixel_bytes = layout.pixel.length if layout.pixel else 0
    raw_pixel_bytes, problem = native_length(layout)
    raw_bytes = layout.length - pixel_bytes + raw_pixel_bytes
    return Looked(found, stratum, known.study_uid, found_bytes, raw_bytes, raw_pixel_bytes, problem=problem)


def native_length(layout: Layout) -> tuple[int, str]:
    """Bytes of Pixel Data when it is native, and why that cannot be said: then it is the length as found."""
    if layout.pixel is None:
        return 0, layout.problem or ""
    if layout.problem:
        return layout.pixel.length, f"damaged: {layout.problem}"
    if not layout.pixel.encapsulated:
        return layout.pixel.length, ""
    if registry.for_transfer_syntax(layout.transfer_syntax) is None:
        name = uids.transfer_syntax(layout.transfer_syntax).name
        return layout.pixel.length, f"no decoder for {name}; counted as it was found in every format"
    try:
        spec = frame_spec(layout.elements, layout.pixel)
    except DicomError as error:
        return layout.pixel.length, str(error)
    return native_bytes(spec), ""


def native_bytes(spec: FrameSpec) -> int:
    """Bytes of all frames as native Pixel Data, padded to an even length."""
    length = -(-decoded_spec(spec).frame_bits * spec.number_of_frames // 8)
    return length + length % 2
