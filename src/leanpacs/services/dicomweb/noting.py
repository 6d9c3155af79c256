"""Between the archive and a request: note in its cargo what is given and taken."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from leanpacs.archive.intake.incoming import TAKEN
from leanpacs.services.cargo import Cargo
from leanpacs.services.ledger import Direction

if TYPE_CHECKING:
    from leanpacs.archive.giveback.retrieve import FrameBytes, Part10, Retriever
    from leanpacs.archive.intake.incoming import Incoming, Receipt
    from leanpacs.catalog import InstanceRow
    from leanpacs.services.dicomweb.transfer import Lander


def noting(retriever: Retriever, cargo: Cargo) -> Retriever:
    """The same retriever, which notes files and frames that it gives."""
    return cast("Retriever", _Noting(retriever, cargo))


class _Noting:
    def __init__(self, retriever: Retriever, cargo: Cargo) -> None:
        self._retriever = retriever
        self._cargo = cargo

    def __getattr__(self, name: str) -> Any:
        """All else is the retriever's."""
        return getattr(self._retriever, name)

    def part10(self, instance: InstanceRow, transfer_syntax: str | None = None) -> Part10:
        """See `Retriever.part10`."""
        part = self._retriever.part10(instance, transfer_syntax)
        weight = instance.raw_bytes if part.length is None else part.length
        self._note(instance, part.transfer_syntax, weight, instance.raw_bytes, 1)
        return part

    def frame(self, instance: InstanceRow, number: int, transfer_syntax: str | None = None) -> FrameBytes:
        """See `Retriever.frame`."""
        frame = self._retriever.frame(instance, number, transfer_syntax)
        self._note_frame(instance, frame)
        return frame

    def frames(
        self, instance: InstanceRow, numbers: Sequence[int], transfer_syntax: str | None = None, effort: int = 0
    ) -> Generator[FrameBytes]:
        """See `Retriever.frames`."""
        given = self._retriever.frames(instance, numbers, transfer_syntax, effort)
        try:
            for frame in given:
                self._note_frame(instance, frame)
                yield frame
        finally:
            close = getattr(given, "close", None)
            if close is not None:
                close()

    def _note_frame(self, instance: InstanceRow, frame: FrameBytes) -> None:
        raw = instance.raw_bytes // max(instance.number_of_frames or 1, 1)
        self._note(instance, frame.transfer_syntax, len(frame.data), raw, 0)

    def _note(self, instance: InstanceRow, syntax: str, weight: int, raw_bytes: int, count: int) -> None:
        self._cargo.note(Direction.OUT, instance.modality, syntax, weight=weight, raw_bytes=raw_bytes, instances=count)


class NotingLander:
    """Takes instances in, and notes what they are.

    Parameters
    ----------
    archive : Lander
        Where they go.
    cargo : Cargo
        Where it is noted.
    """

    def __init__(self, archive: Lander, cargo: Cargo) -> None:
        self._archive = archive
        self._cargo = cargo

    @property
    def spool_folder(self) -> Path:
        """Where received files are written."""
        return self._archive.spool_folder

    def land_many(self, batch: Sequence[Incoming]) -> list[Receipt]:
        """Take files over; see `Lander.land_many`."""
        receipts = self._archive.land_many(batch)
        for receipt in receipts:
            size = receipt.size_bytes
            if receipt.outcome in TAKEN:
                stored = self._cargo.stored
                stored[receipt.study_uid] = stored.get(receipt.study_uid, 0) + 1
            self._cargo.note(
                Direction.IN,
                receipt.modality,
                receipt.transfer_syntax,
                weight=size,
                raw_bytes=receipt.raw_bytes or size,
                instances=1,
            )
        return receipts
