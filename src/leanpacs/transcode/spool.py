"""Code streams held until the header before them can be written: on disk when they are many, never all in memory."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from leanpacs.dicom.encapsulation import encapsulate, frame_offsets

IN_MEMORY: Final = 32 << 20
_LONGEST_BASIC_OFFSET: Final = 0xFFFFFFFF


class StreamSpool:
    """The code streams of an instance, in order.

    Parameters
    ----------
    folder : Path or None
        Where the file is once there are more than `IN_MEMORY` bytes; the folder of the system when None.
    longest_basic_offset : int
        Largest offset that the Basic Offset Table can hold.
    """

    def __init__(self, folder: Path | None, *, longest_basic_offset: int = _LONGEST_BASIC_OFFSET) -> None:
        self._file = tempfile.SpooledTemporaryFile(max_size=IN_MEMORY, dir=None if folder is None else str(folder))  # noqa: SIM115 -- see close
        self._longest_basic_offset = longest_basic_offset
        self.lengths: list[int] = []

    def add(self, stream: bytes) -> None:
        """Append one code stream."""
        self._file.write(stream)
        self.lengths.append(len(stream))

    @property
    def needs_extended_table(self) -> bool:
        """Whether an offset is too large for the Basic Offset Table, which stays empty then (PS3.5 A.4)."""
        return needs_extended_table(self.lengths, self._longest_basic_offset)

    def table_changes(self) -> dict[str, Any]:
        """Extended Offset Table and its lengths where one is needed, else none (PS3.3 C.7.6.3.1.8, C.7.6.3.1.9)."""
        return extended_table(self.lengths) if self.needs_extended_table else {}

    def value(self) -> Iterator[bytes]:
        """The encapsulated value: one fragment a frame, offset table and delimiter."""
        self._file.seek(0)
        streams = (self._file.read(length) for length in self.lengths)
        return encapsulate(streams, lengths=self.lengths, with_table=not self.needs_extended_table)

    def close(self) -> None:
        """Let the file go."""
        self._file.close()


def needs_extended_table(lengths: Sequence[int], longest_basic_offset: int = _LONGEST_BASIC_OFFSET) -> bool:
    """Whether an offset of code streams of these lengths is too large for the Basic Offset Table (PS3.5 A.4)."""
    return frame_offsets(lengths)[-1] > longest_basic_offset


def extended_table(lengths: Sequence[int]) -> dict[str, Any]:
    """Extended Offset Table and its lengths (PS3.3 C.7.6.3.1.8, C.7.6.3.1.9)."""
    return {
        "ExtendedOffsetTable": _longs(frame_offsets(lengths)),
        "ExtendedOffsetTableLengths": _longs(lengths),
    }


def _longs(numbers: Sequence[int]) -> bytes:
    return b"".join(number.to_bytes(8, "little") for number in numbers)
