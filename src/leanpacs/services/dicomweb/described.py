"""Store requests of metadata and bulk data: instances are put together when all parts have come.

References
----------
PS3.18 10.5.1.4 (request payload), F (DICOM JSON Model); PS3.19 A.1 (Native DICOM Model).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import orjson

from leanpacs.errors import DicomError, StoreFull
from leanpacs.services.dicomweb import media
from leanpacs.services.dicomweb.assembly import Bulk, assembled
from leanpacs.services.dicomweb.readxml import read_native_xml
from leanpacs.services.dicomweb.receive import ReceivedPart, Receiver, remove_files

METADATA_TYPES: Final = (media.DICOM_JSON, media.DICOM_XML)
_LARGEST_METADATA_BYTES: Final = 64 << 20
"""Metadata are held in memory; bulk data never are as a whole, but for what is not Pixel Data."""
_SOP_CLASS, _SOP_UID = "00080016", "00080018"

Model = dict[str, Any]


class DescribedReceiver:
    """Takes metadata and bulk data, and hands out the instances that they make.

    Parameters
    ----------
    parts : Receiver
        Takes the parts as they come.
    folder : Path
        Where instances are written.
    largest_bytes : int
        Larger instances are refused.
    """

    def __init__(self, parts: Receiver, folder: Path, largest_bytes: int) -> None:
        self._parts = parts
        self._folder = folder
        self._largest_bytes = largest_bytes
        self._received: list[ReceivedPart] = []
        self._completed: list[ReceivedPart] = []

    def feed(self, data: bytes) -> None:
        """See `Receiver`."""
        self._parts.feed(data)
        self._received += self._parts.completed()

    def finish(self) -> None:
        """See `Receiver`."""
        self._parts.finish()
        self._received += self._parts.completed()
        try:
            self._completed += self._instances()
        finally:
            remove_files(self._received)
            self._received = []

    def completed(self) -> list[ReceivedPart]:
        """See `Receiver`."""
        completed, self._completed = self._completed, []
        return completed

    def discard(self) -> None:
        """See `Receiver`."""
        remove_files([*self._received, *self._completed])
        self._parts.discard()

    def _instances(self) -> Iterator[ReceivedPart]:
        described = [part for part in self._received if _media_type(part) in METADATA_TYPES]
        bulk = _by_location(part for part in self._received if part not in described)
        number = 0
        for part in described:
            for model in _models(part):
                number += 1
                if isinstance(model, str):
                    yield ReceivedPart(number, refusal=model)
                else:
                    yield self._instance(number, model, bulk)
        if not described:
            yield ReceivedPart(1, refusal="the request has no part with metadata")

    def _instance(self, number: int, model: Model, bulk: dict[str, list[Bulk]]) -> ReceivedPart:
        made = ReceivedPart(number, sop_class=_uid(model, _SOP_CLASS), sop_uid=_uid(model, _SOP_UID))
        try:
            made.path = assembled(model, bulk, self._folder, self._largest_bytes)
            made.size_bytes = made.path.stat().st_size
        except StoreFull:
            raise
        except DicomError as error:
            made.refusal = str(error)
        return made


def _models(part: ReceivedPart) -> Iterator[Model | str]:
    """DICOM JSON Model objects of a part, or why there are none."""
    if part.path is None:
        yield part.refusal
        return
    if part.size_bytes > _LARGEST_METADATA_BYTES:
        yield f"the metadata have {part.size_bytes} bytes, more than {_LARGEST_METADATA_BYTES}"
        return
    document = part.path.read_bytes()
    try:
        if _media_type(part) == media.DICOM_XML:
            yield read_native_xml(document)
            return
        found = orjson.loads(document)
    except (DicomError, orjson.JSONDecodeError) as error:
        yield f"the metadata are not understood: {error}"
        return
    for model in found if isinstance(found, list) else [found]:
        yield model if isinstance(model, dict) else "what should be metadata of an instance is no object"


def _by_location(parts: Iterator[ReceivedPart]) -> dict[str, list[Bulk]]:
    """Bulk data by Content-Location; several parts of one location are frames, in their order."""
    found: dict[str, list[Bulk]] = {}
    for part in parts:
        if part.path is not None:
            content = media.parse_media_type(part.content_type) or media.MediaType(media.OCTETS)
            bulk = Bulk(part.path, part.size_bytes, content.name, content.get("transfer-syntax") or "")
            found.setdefault(part.location, []).append(bulk)
    return found


def _media_type(part: ReceivedPart) -> str:
    content_type = media.parse_media_type(part.content_type)
    return content_type.name if content_type else ""


def _uid(model: Model, tag: str) -> str:
    values: Sequence[object] = model.get(tag, {}).get("Value") or ("",) if isinstance(model.get(tag), dict) else ("",)
    return values[0] if isinstance(values[0], str) else ""
