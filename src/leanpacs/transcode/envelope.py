"""What stands around the code streams of a data set, for those who have the code streams at hand."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from leanpacs.dicom.encapsulation import encapsulate, encapsulated_length


@dataclass(frozen=True, slots=True)
class Envelope:
    """A data set, or a file, in an encapsulated transfer syntax, without its code streams.

    Parameters
    ----------
    file_meta : bytes
        Preamble and file meta information for those who want a file.
    head, tail : bytes
        The data set before and after the value of Pixel Data.
    lengths : tuple of int
        Bytes of each code stream, one a frame.
    with_table : bool
        Whether a Basic Offset Table goes before them; else the head has an extended one.
    """

    file_meta: bytes
    head: bytes
    tail: bytes
    lengths: tuple[int, ...]
    with_table: bool

    @property
    def length(self) -> int:
        """Bytes of the whole data set."""
        return len(self.head) + encapsulated_length(self.lengths, with_table=self.with_table) + len(self.tail)

    def data_set(self, streams: Iterable[bytes]) -> Iterator[bytes]:
        """The data set around these code streams, which are taken one by one."""
        yield self.head
        yield from encapsulate(streams, lengths=self.lengths, with_table=self.with_table)
        yield self.tail
