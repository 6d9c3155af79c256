"""Between an archive and a receiver: counts what is sent."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass

from leanpacs.audit import AuditAction, AuditOutcome
from leanpacs.catalog import InstanceRow, Volume
from leanpacs.services.dimse.giving import DataSet, Giving
from leanpacs.services.ledger import Direction, Ledger, Party


def counted(archive: Giving, ledger: Ledger | None, party: Party) -> Giving:
    """The same archive, which tells a ledger what it gives to a receiver."""
    return archive if ledger is None else _Counted(archive, ledger, party)


def announce(ledger: Ledger, party: Party, instances: Iterable[InstanceRow]) -> None:
    """Tell the audit trail that instances are about to be sent to somebody (PS3.15 A.5.3.3)."""
    for study_uid, count in Counter(instance.study_uid for instance in instances).items():
        ledger.tell(AuditAction.SEND, party, study_uid=study_uid, instances=count)


@dataclass(frozen=True, slots=True)
class _DataSet:
    transfer_syntax: str
    chunks: Iterator[bytes | memoryview]


class _Counted:
    def __init__(self, archive: Giving, ledger: Ledger, party: Party) -> None:
        self._archive = archive
        self._ledger = ledger
        self._party = party

    def data_set(self, instance: InstanceRow, transfer_syntax: str | None = None) -> DataSet:
        """See `Giving.data_set`."""
        return self._counted(instance, self._archive.data_set(instance, transfer_syntax))

    def data_set_soon(self, instance: InstanceRow, transfer_syntax: str) -> Callable[[], DataSet]:
        """See `Giving.data_set_soon`."""
        begun = self._archive.data_set_soon(instance, transfer_syntax)
        return lambda: self._counted(instance, begun())

    def at_hand(self, instance: InstanceRow, among: Collection[str]) -> str:
        """See `Giving.at_hand`."""
        return self._archive.at_hand(instance, among)

    def expect(self, instances: Sequence[InstanceRow]) -> None:
        """See `Giving.expect`; told to the audit trail, too."""
        announce(self._ledger, self._party, instances)
        self._archive.expect(instances)

    def bring(self, instance: InstanceRow) -> float:
        """See `Giving.bring`."""
        return self._archive.bring(instance)

    def _counted(self, instance: InstanceRow, given: DataSet) -> DataSet:
        return _DataSet(given.transfer_syntax, self._counting(instance, given))

    def _counting(self, instance: InstanceRow, given: DataSet) -> Iterator[bytes | memoryview]:
        sent_bytes, whole = 0, False
        try:
            for chunk in given.chunks:
                sent_bytes += len(chunk)
                yield chunk
            whole = True
        finally:
            close = getattr(given.chunks, "close", None)
            if close is not None:
                close()
            raw_bytes = instance.raw_bytes if whole else min(instance.raw_bytes, sent_bytes)
            volume = Volume(1, int(whole), sent_bytes, raw_bytes)
            self._ledger.count(Direction.OUT, self._party, volume, instance.modality, given.transfer_syntax)
            outcome = AuditOutcome.SUCCESS if whole else AuditOutcome.FAILURE
            self._ledger.tell(
                AuditAction.RETRIEVE, self._party, outcome, study_uid=instance.study_uid, instances=int(whole)
            )
