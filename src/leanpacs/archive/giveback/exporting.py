"""Write instances out as files: ``<study>/<series>/<instance>.dcm``."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from leanpacs.archive.giveback.retrieve import Part10, Retriever
from leanpacs.catalog import InstanceRow
from leanpacs.errors import LeanPACSError


@dataclass(frozen=True, slots=True)
class Exported:
    """One written file, or why there is none."""

    instance: InstanceRow
    path: Path
    size_bytes: int = 0
    failed: str = ""


def export(
    retriever: Retriever, instances: Iterable[InstanceRow], out: Path, transfer_syntax: str | None
) -> Iterator[Exported]:
    """Write each instance to a file of its own below ``out``; one that fails does not stop the others.

    Parameters
    ----------
    transfer_syntax : str or None
        UID wanted; None gives the exact bytes received.
    """
    for instance in instances:
        path = out / _name(instance.study_uid) / _name(instance.series_uid) / f"{_name(instance.sop_uid)}.dcm"
        try:
            part = (
                retriever.as_received(instance)
                if transfer_syntax is None
                else retriever.part10(instance, transfer_syntax)
            )
            yield Exported(instance, path, _write(path, part))
        except (LeanPACSError, OSError) as error:
            yield Exported(instance, path, failed=str(error))


def _write(path: Path, part: Part10) -> int:
    """Write a file under another name first, so that a file that is there is complete."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".part")
    size = 0
    with partial.open("wb") as file:
        for chunk in part.chunks:
            size += file.write(chunk)
    partial.replace(path)
    return size


def _name(uid: str) -> str:
    """A UID as a file name; what senders call a UID may be anything."""
    return re.sub(r"[^A-Za-z0-9.-]", "_", uid).strip(".") or "_"
