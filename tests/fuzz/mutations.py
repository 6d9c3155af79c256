"""Ways to spoil bytes, as small recipes that can be kept: a list of changes, each of a few bytes."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

HEADER_BYTES = 300
"""Where code streams say what they are; changes there matter most."""

_NUMBERS = (0, 1, 2, 7, 8, 15, 16, 255, 256, 4095, 0x7FFF, 0x8000, 0xFFFE, 0xFFFF)
_LONGS = (0, 1, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFE, 0xFFFF_FFFF, 0x0001_0000, 100_000)


@dataclass(frozen=True, slots=True)
class Change:
    """Put ``bytes`` in the place of those from ``start`` to ``end``."""

    start: int
    end: int
    put: bytes

    def to_json(self) -> list[int | str]:
        return [self.start, self.end, self.put.hex()]


Changes = tuple[Change, ...]


def changed(data: bytes, changes: Sequence[Change]) -> bytes:
    """The bytes with the changes made one after the other."""
    for change in changes:
        data = data[: change.start] + change.put + data[change.end :]
    return data


def to_text(changes: Changes) -> str:
    """A recipe as it is kept."""
    return json.dumps([change.to_json() for change in changes])


def from_text(text: str) -> Changes:
    """Inverse of :func:`to_text`."""
    return tuple(Change(start, end, bytes.fromhex(put)) for start, end, put in json.loads(text))


def spoilt(data: bytes, draw: random.Random, donor: bytes) -> Changes:
    """Draw one to four changes.

    Parameters
    ----------
    data : bytes
        What is to be spoilt.
    draw : Random
        Decides.
    donor : bytes
        Something of the same kind, which parts are taken from.
    """
    made: list[Change] = []
    for _ in range(draw.choice((1, 1, 1, 2, 2, 3, 4))):
        change = draw.choice(_WAYS)(changed(data, made), draw, donor)
        if change is not None:
            made.append(change)
    return tuple(made)


def _somewhere(length: int, draw: random.Random) -> int:
    bound = min(length, HEADER_BYTES) if draw.random() < 0.6 else length
    return draw.randrange(max(bound, 1))


def _bit(data: bytes, draw: random.Random, _: bytes) -> Change | None:
    at = _somewhere(len(data), draw)
    return Change(at, at + 1, bytes([data[at] ^ 1 << draw.randrange(8)])) if data else None


def _bytes(data: bytes, draw: random.Random, _: bytes) -> Change:
    at = _somewhere(len(data), draw)
    count = draw.choice((1, 2, 4, 16, 64))
    return Change(at, at + count, draw.choice((draw.randbytes(count), bytes(count), b"\xff" * count)))


def _cut(data: bytes, draw: random.Random, _: bytes) -> Change:
    return Change(_somewhere(len(data), draw), len(data), b"")


def _number(data: bytes, draw: random.Random, _: bytes) -> Change:
    at = _somewhere(len(data), draw)
    value = draw.choice(_NUMBERS).to_bytes(2, draw.choice(("big", "little")))
    return Change(at, at + 2, value)


def _long(data: bytes, draw: random.Random, _: bytes) -> Change:
    at = _somewhere(len(data), draw)
    return Change(at, at + 4, draw.choice(_LONGS).to_bytes(4, draw.choice(("big", "little"))))


def _marker(data: bytes, draw: random.Random, _: bytes) -> Change | None:
    """Another marker for one that is there: JPEG, JPEG-LS and JPEG 2000 begin their segments with FF."""
    bound = HEADER_BYTES if draw.random() < 0.7 else len(data)
    places = [at for at in range(min(bound, len(data)) - 1) if data[at] == 0xFF]
    if not places:
        return None
    at = draw.choice(places)
    return Change(at + 1, at + 2, bytes([draw.randrange(0x4F, 0x100)]))


def _removed(data: bytes, draw: random.Random, _: bytes) -> Change:
    at = _somewhere(len(data), draw)
    return Change(at, at + draw.choice((1, 2, 8, 50, 1000)), b"")


def _repeated(data: bytes, draw: random.Random, _: bytes) -> Change:
    at = _somewhere(len(data), draw)
    return Change(at, at, data[at : at + draw.choice((1, 2, 8, 50, 500))])


def _spliced(data: bytes, draw: random.Random, donor: bytes) -> Change:
    """The beginning of another one."""
    length = draw.randrange(1, min(len(donor), HEADER_BYTES) + 1) if donor else 0
    return Change(0, length if draw.random() < 0.7 else 0, donor[:length])


def _foreign(data: bytes, draw: random.Random, donor: bytes) -> Change:
    """A piece of another one in the middle."""
    at, start = _somewhere(len(data), draw), _somewhere(len(donor), draw)
    piece = donor[start : start + draw.choice((4, 30, 300))]
    return Change(at, at + draw.choice((0, len(piece))), piece)


def _grown(data: bytes, draw: random.Random, _: bytes) -> Change:
    return Change(len(data), len(data), draw.randbytes(draw.choice((1, 2, 100))))


_WAYS: tuple[Callable[[bytes, random.Random, bytes], Change | None], ...] = (
    _bit,
    _bit,
    _bytes,
    _cut,
    _number,
    _number,
    _long,
    _marker,
    _removed,
    _repeated,
    _spliced,
    _foreign,
    _grown,
)
