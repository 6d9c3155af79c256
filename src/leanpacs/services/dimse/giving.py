"""What those who send need of an archive."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Protocol

from leanpacs.catalog import InstanceRow


class DataSet(Protocol):
    """A data set on its way."""

    @property
    def transfer_syntax(self) -> str:
        """UID of what ``chunks`` are in."""
        ...

    @property
    def chunks(self) -> Iterator[bytes | memoryview]:
        """The data set in pieces, made as they are taken."""
        ...


class Giving(Protocol):
    """An archive that gives what it holds."""

    def data_set(self, instance: InstanceRow, transfer_syntax: str | None = None) -> DataSet:
        """An instance in a transfer syntax; raises `UnsupportedTransferSyntax` where that cannot be."""
        ...

    def data_set_soon(self, instance: InstanceRow, transfer_syntax: str) -> Callable[[], DataSet]:
        """Begin what `data_set` does; what is returned waits for it."""
        ...

    def at_hand(self, instance: InstanceRow, among: Collection[str]) -> str:
        """UID of the one of these transfer syntaxes in which it is held as it may go out; '' for none."""
        ...

    def expect(self, instances: Sequence[InstanceRow], /) -> None:
        """Prepare for giving all of these."""
        ...

    def bring(self, instance: InstanceRow, /) -> float:
        """Ask for an instance that is in an archive class; the seconds that it will still take."""
        ...
