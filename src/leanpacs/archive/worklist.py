"""The modality worklist: scheduled procedure steps in a folder, one file for each order.

Files are DICOM (``.wl``, ``.dcm``; with or without preamble and file meta, as Orthanc's and dcmtk's worklist servers
read them) or DICOM JSON (``.json``; PS3.18 annex F; one data set, or an array of them). Whoever schedules writes them
there, or has `WorklistFolder.add` do it; a file that is gone is no longer scheduled.
"""

from __future__ import annotations

import json
import logging
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from leanpacs.errors import InvalidWorklistItem

if TYPE_CHECKING:
    from pydicom import Dataset

log = logging.getLogger(__name__)

SUFFIXES: Final = (".wl", ".dcm", ".json")
_STEPS: Final = 0x00400100
LARGEST_FILE_BYTES: Final = 16 << 20
NEEDED: Final = ("PatientID", "PatientName")
"""Attributes of an order without which nobody finds it (PS3.4 table K.6-1)."""


@dataclass(frozen=True, slots=True)
class _Read:
    """What a file held when it was of that age and length."""

    stamp: tuple[int, int, int]
    items: tuple[Dataset, ...]


class WorklistFolder:
    """Scheduled procedure steps. Thread-safe; files that have not changed are not read again.

    Parameters
    ----------
    folder : Path
        Need not exist: nothing is scheduled then.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._read: dict[str, _Read] = {}
        self._lock = threading.Lock()

    def items(self) -> Iterator[Dataset]:
        """Each scheduled procedure step with its order: one item in Scheduled Procedure Step Sequence.

        Not to be changed. A file that cannot be read is told of in the log, once, and left out.
        """
        for read in self._current():
            yield from read.items

    def names(self) -> list[tuple[str, tuple[Dataset, ...]]]:
        """Names of the files, and what each of them schedules."""
        self._current()
        with self._lock:
            return [(name, read.items) for name, read in sorted(self._read.items())]

    def add(self, name: str, content: bytes) -> int:
        """Schedule what a file holds, in the place of what the file of that name held before.

        Parameters
        ----------
        name : str
            File name, with one of `SUFFIXES`.
        content : bytes
            DICOM, or DICOM JSON when the name ends in ``.json``.

        Returns
        -------
        int
            Number of scheduled procedure steps.

        Raises
        ------
        InvalidWorklistItem
            The name will not do, it does not read, or lacks what an order needs.
        OSError
            The folder cannot be written to.
        """
        if Path(name).name != name or name.startswith(".") or not name.endswith(SUFFIXES):
            raise InvalidWorklistItem(name, f"is no file name that ends in {', '.join(SUFFIXES)}")
        items = _parsed(name, content)
        self.folder.mkdir(parents=True, exist_ok=True)
        being_written = self.folder / f".{name}.{os.getpid()}.{threading.get_ident()}"
        try:
            with being_written.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            being_written.rename(self.folder / name)
        finally:
            being_written.unlink(missing_ok=True)
        return len(items)

    def remove(self, name: str) -> bool:
        """Take a file out of the worklist; False when there is none of that name."""
        if Path(name).name != name:
            return False
        try:
            (self.folder / name).unlink()
        except FileNotFoundError:
            return False
        return True

    def _current(self) -> list[_Read]:
        """What the files hold now, by name."""
        found: dict[str, _Read] = {}
        for name, stamp in self._files():
            known = self._read.get(name)
            found[name] = known if known is not None and known.stamp == stamp else self._reread(name, stamp)
        with self._lock:
            self._read = found
        return [found[name] for name in sorted(found)]

    def _files(self) -> Iterator[tuple[str, tuple[int, int, int]]]:
        try:
            entries = list(os.scandir(self.folder))
        except FileNotFoundError:
            return
        for entry in entries:
            if entry.name.endswith(SUFFIXES) and not entry.name.startswith("."):
                try:
                    facts = entry.stat()
                except FileNotFoundError:  # gone since the folder was read
                    continue
                yield entry.name, (facts.st_mtime_ns, facts.st_size, facts.st_ino)

    def _reread(self, name: str, stamp: tuple[int, int, int]) -> _Read:
        try:
            if stamp[1] > LARGEST_FILE_BYTES:
                raise InvalidWorklistItem(name, f"is larger than {LARGEST_FILE_BYTES} bytes")
            return _Read(stamp, _parsed(name, (self.folder / name).read_bytes()))
        except (InvalidWorklistItem, OSError) as error:
            log.warning("worklist: %s", error, extra={"action": "worklist"})
            return _Read(stamp, ())


def _parsed(name: str, content: bytes) -> tuple[Dataset, ...]:
    """Scheduled procedure steps of a file, each with its order."""
    try:
        orders = _json(content) if name.endswith(".json") else [_dicom(content)]
        items = tuple(step for order in orders for step in _steps(order))
    except InvalidWorklistItem:
        raise
    except Exception as error:  # whatever hostile bytes make the readers raise
        raise InvalidWorklistItem(name, f"cannot be read: {error}") from error
    for item in items:
        missing = [keyword for keyword in NEEDED if keyword not in item]
        if missing:
            raise InvalidWorklistItem(name, f"has no {', '.join(missing)}")
    if not items:
        raise InvalidWorklistItem(name, "has no item in Scheduled Procedure Step Sequence (0040,0100)")
    return items


def _json(content: bytes) -> list[Dataset]:
    from pydicom import Dataset

    read = json.loads(content)
    return [Dataset.from_json(one) for one in (read if isinstance(read, list) else [read])]


def _dicom(content: bytes) -> Dataset:
    import io

    from pydicom import dcmread

    ds = dcmread(io.BytesIO(content), force=True)
    if not ds:
        raise ValueError("it is empty")
    ds.decode()
    return ds


def _steps(order: Dataset) -> Iterator[Dataset]:
    """One data set for each item of Scheduled Procedure Step Sequence (PS3.4 K.6.1.2.1: a step is what matches)."""
    from pydicom import DataElement, Dataset

    for step in order.get("ScheduledProcedureStepSequence") or ():
        one = Dataset()
        one.update({element.tag: element for element in order})
        one[_STEPS] = DataElement(_STEPS, "SQ", [step])  # a new element: the other one belongs to the order
        yield one
