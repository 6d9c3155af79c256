"""Writing multipart/related bodies, piece by piece.

References
----------
RFC 2387 (multipart/related), RFC 2046 5.1, PS3.18 8.6.1.2 (multipart payloads).
"""

from __future__ import annotations

import hashlib
import itertools
import secrets
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from leanpacs.archive.giveback.given import Bytes

_CHUNK_BYTES: Final = 2 << 20


@dataclass(frozen=True, slots=True)
class BodyPart:
    """One part of a body.

    Attributes
    ----------
    content_type : str
        Media type with its parameters.
    chunks : iterator of bytes
        The content; read once.
    location : str
        URL for Content-Location, '' for none.
    length : int or None
        Bytes of the content where known.
    """

    content_type: str
    chunks: Iterator[Bytes]
    location: str = ""
    length: int | None = None

    def preface(self, boundary: str) -> bytes:
        """Delimiter and header fields, up to the empty line."""
        lines = [f"--{boundary}", f"Content-Type: {self.content_type}"]
        if self.location:
            lines.append(f"Content-Location: {self.location}")
        if self.length is not None:
            lines.append(f"Content-Length: {self.length}")
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


_SECRET: Final = secrets.token_bytes(32)
_numbers: Final = itertools.count()


def new_boundary() -> str:
    """Return a boundary that nobody can foresee, so that no content can hold it."""
    # To ask the system for random bytes each time would let go of the interpreter in the middle of an answer.
    return hashlib.blake2b(b"%d" % next(_numbers), key=_SECRET, digest_size=16).hexdigest()


def content_type(part_type: str, boundary: str) -> str:
    """Content-Type of a body whose parts are of ``part_type``."""
    return f'multipart/related; type="{part_type}"; boundary={boundary}'


def body(parts: Iterable[BodyPart], boundary: str) -> Iterator[Bytes]:
    """Join parts to a body; ``parts`` is advanced only when the one before is through."""
    for part in parts:
        try:
            yield part.preface(boundary)
            yield from part.chunks
            yield b"\r\n"
        finally:
            close(part.chunks)
    yield _end(boundary)


def body_length(part: BodyPart, boundary: str) -> int | None:
    """Bytes of a body of this one part, where the part's length is known."""
    return None if part.length is None else part_length(part, part.length, boundary) + end_length(boundary)


def part_length(part: BodyPart, content_length: int, boundary: str) -> int:
    """Bytes that a part takes in a body."""
    return len(part.preface(boundary)) + content_length + len("\r\n")


def end_length(boundary: str) -> int:
    """Bytes of what stands after the last part."""
    return len(_end(boundary))


def _end(boundary: str) -> bytes:
    return f"--{boundary}--\r\n".encode()


def evened(
    chunks: Iterator[Bytes], chunk_bytes: int = _CHUNK_BYTES, *, first_bytes: int | None = None
) -> Iterator[bytes]:
    """Yield the same bytes in chunks of this size to twice of it, but for the last; the first takes ``first_bytes``.

    Small chunks are joined, because each costs the event loop a turn; large ones are cut, because the server
    holds a few for each client that reads slowly.
    """
    held: list[Bytes] = []
    size, enough = 0, first_bytes or chunk_bytes
    try:
        for chunk in chunks:
            while size + len(chunk) >= 2 * chunk_bytes:  # a view: of a large chunk nothing is copied but what is sent
                chunk = memoryview(chunk)
                yield b"".join([*held, chunk[: chunk_bytes - size]])
                chunk, held, size, enough = chunk[chunk_bytes - size :], [], 0, chunk_bytes
            held.append(chunk)
            size += len(chunk)
            if size < enough:
                continue
            only = held[0] if len(held) == 1 else None
            yield only if isinstance(only, bytes) else b"".join(held)
            held, size, enough = [], 0, chunk_bytes
        if size:
            yield b"".join(held)
    finally:
        close(chunks)


def close(chunks: Iterator[object]) -> None:
    """Let go of what an iterator holds open, where it is one that can be closed."""
    finish = getattr(chunks, "close", None)
    if finish is not None:
        finish()
