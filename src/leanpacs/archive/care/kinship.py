"""What lossy copies were made of, out of the copies alone: the note that a lost catalog had of it, written anew.

A copy names its original (Source Image Sequence, PS3.3 C.12.4.1) and, in Series Description, how it was made; its UID
follows from both (:func:`leanpacs.archive.settle.deriving.uid_of`), so that nothing else passes for a copy of ours.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

from leanpacs.archive.settle.deriving import UID_ROOT, uid_of
from leanpacs.catalog import DERIVED, Catalog
from leanpacs.catalog.ageing import Outcome, Tried, Work
from leanpacs.dicom.instance import scan
from leanpacs.dicom.write import read_head
from leanpacs.errors import LeanPACSError

if TYPE_CHECKING:
    from pydicom import Dataset

    from leanpacs.archive.archive import Archive
    from leanpacs.transcode.source import OpenInstance

log = logging.getLogger(__name__)

_HOW: Final = re.compile(r"\(lossy, (.+)\)$")
_OWNER: Final = "rebuild-catalog"
_FOR_EVER: Final = timedelta(days=36_500)


@dataclass(frozen=True, slots=True)
class Kinship:
    """A lossy copy, its original (SOP Instance UIDs), and how it was made: ``JPEGXL distance=1``."""

    copy: str
    original: str
    how: str

    def is_proven(self, catalog: Catalog) -> bool:
        """Whether the original is held and the copy has the UID that a copy of it gets."""
        held = catalog.instances(sop_uid=self.original)
        return any(uid_of(one.data_set_digest.hex, self.how) == self.copy for one in held)

    def may_be_ours(self, catalog: Catalog) -> bool:
        """Whether the original may turn out to be one that this was made of here: it is not held so far."""
        return self.copy.startswith(UID_ROOT) and not catalog.instances(sop_uid=self.original)


def of_instance(source: OpenInstance) -> Kinship | None:
    """What an instance says it was made of; None if it is no lossy copy of ours."""
    layout = source.layout
    return _of(read_head(source.head(), implicit_vr=layout.implicit_vr, little_endian=layout.little_endian))


def of_file(path: Path) -> Kinship | None:
    """The same of a file, whatever is in it."""
    try:
        with path.open("rb") as file:
            layout = scan(file)
            file.seek(layout.preface_length)
            head = file.read(layout.head_end - layout.preface_length)
        return _of(read_head(head, implicit_vr=layout.implicit_vr, little_endian=layout.little_endian))
    except Exception:  # noqa: BLE001 - what cannot be read was not written here; whoever lands it says what is wrong with it
        return None


def _of(head: Dataset) -> Kinship | None:
    sources = head.get("SourceImageSequence") or []
    how = _HOW.search(str(head.get("SeriesDescription") or ""))
    if len(sources) != 1 or how is None:
        return None
    return Kinship(str(head.SOPInstanceUID), str(sources[0].get("ReferencedSOPInstanceUID", "")), how[1])


def tie(archive: Archive) -> int:
    """Note which copies there are of what, as the lifecycle does once it has made them; how many were noted.

    A copy is deleted with its original then, and not made a second time. What was noted before is passed over.
    """
    return sum(_note(archive.catalog, kinship) for kinship in _all(archive))


def _all(archive: Archive) -> Iterator[Kinship]:
    for instance in archive.catalog.all_instances():
        if instance.door == DERIVED:
            try:
                with archive.retriever.opened(instance) as opened:
                    found = of_instance(opened)
            except LeanPACSError as error:
                log.error("%s: %s", instance.sop_uid, error, extra={"action": "rebuild"})
                continue
            if found is not None and found.is_proven(archive.catalog):
                yield found


def _note(catalog: Catalog, kinship: Kinship) -> int:
    now, noted = datetime.now(UTC), 0
    with catalog.writing() as transaction:
        for original in catalog.instances(sop_uid=kinship.original):
            work = Work(original.id, f"derive {kinship.how}")
            if transaction.ageing.claim([work], _OWNER, now=now, until=now + timedelta(minutes=1)):
                made = Tried(Outcome.DONE.value, now + _FOR_EVER, detail=kinship.copy)
                transaction.ageing.remember(work, _OWNER, made)
                noted += 1
    return noted
