"""What is given: files and data sets in pieces, and frames."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TypeAlias

Bytes: TypeAlias = bytes | memoryview
"""Samples that a decoder has written are not copied to be sent."""


@dataclass(frozen=True, slots=True)
class Part10:
    """A file, or a data set: its transfer syntax UID, its length if known, and its bytes, made as they are taken."""

    transfer_syntax: str
    length: int | None
    chunks: Iterator[Bytes]


@dataclass(frozen=True, slots=True)
class FrameBytes:
    """One frame: the transfer syntax UID that its bytes are in, and the bytes."""

    transfer_syntax: str
    data: Bytes


class Held(Iterator[Bytes]):
    """Pieces of what stays open until the last of them is taken, or :meth:`close` is called."""

    def __init__(self, pieces: Iterator[Bytes], stack: ExitStack) -> None:
        self._pieces = pieces
        self._stack = stack

    def __next__(self) -> Bytes:
        try:
            return next(self._pieces)
        except BaseException:
            self._stack.close()
            raise

    def close(self) -> None:
        """Let go of what is open."""
        self._stack.close()
