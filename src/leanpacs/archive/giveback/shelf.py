"""What packs hold beside their frames, kept in memory for those that were opened last."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field

from leanpacs.archive.giveback.rebuild import PackContents
from leanpacs.archive.manifest import HEAD
from leanpacs.dicom.layout import Layout
from leanpacs.refs import Digest
from leanpacs.transcode.envelope import Envelope

_BESIDE_BYTES = 6 << 10
"""What an entry takes beside its head, about: parsed manifest, layout, positions of some frames."""
_OF_A_FRAME_BYTES = 400
_OF_A_HEAD = 16
"""Times its compressed length: it is there twice, a tenth of its length compressed."""


@dataclass(slots=True)
class Opened:
    """A pack as it was found when it was opened last. What is not needed is not read.

    Attributes
    ----------
    contents : PackContents
        What it holds, and where.
    start : bytes, optional
        Preamble and file meta information as received, if there were any, and the data set before the value of Pixel
        Data; filled as needed.
    layout : Layout, optional
        Of the data set; filled as needed.
    envelopes : dict
        What stands around its code streams when they go out as they are, by transfer syntax UID; filled as needed.
    """

    contents: PackContents
    start: bytes | None = None
    layout: Layout | None = None
    envelopes: dict[str, Envelope | None] = field(default_factory=dict)

    @property
    def size_bytes(self) -> int:
        """Memory that it takes when all is filled, about, with one envelope."""
        head = self.contents.entries.get(HEAD)
        frames = len(self.contents.entries)
        return _OF_A_HEAD * (head.length if head else 0) + _BESIDE_BYTES + _OF_A_FRAME_BYTES * frames


class Shelf:
    """Opened packs by digest, those used last. Thread-safe; packs never change, so nothing on it grows old.

    Parameters
    ----------
    limit_bytes : int
        Memory that all of them may take, about.
    """

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._lock = threading.Lock()
        self._opened: OrderedDict[Digest, tuple[float, Opened]] = OrderedDict()
        self._size = 0

    def get(self, digest: Digest) -> Opened | None:
        """What is known of a pack."""
        with self._lock:
            _, found = self._opened.get(digest, (0.0, None))
            if found is not None:
                self._use(digest, found)
            return found

    def put(self, digest: Digest, opened: Opened) -> None:
        """Remember a pack; those that were not used for longest are forgotten."""
        with self._lock:
            _, known = self._opened.pop(digest, (0.0, None))
            self._size += opened.size_bytes - (known.size_bytes if known else 0)
            self._use(digest, opened)
            while self._size > self._limit_bytes:
                self._forget_first()

    def forget(self, before: float) -> None:
        """Forget what was not used since then (`time.monotonic`)."""
        with self._lock:
            while self._opened and next(iter(self._opened.values()))[0] < before:
                self._forget_first()

    def _use(self, digest: Digest, opened: Opened) -> None:
        self._opened[digest] = time.monotonic(), opened
        self._opened.move_to_end(digest)

    def _forget_first(self) -> None:
        _, (_, opened) = self._opened.popitem(last=False)
        self._size -= opened.size_bytes

    @property
    def held(self) -> Mapping[Digest, Opened]:
        """All that is remembered now."""
        with self._lock:
            return {digest: opened for digest, (_, opened) in self._opened.items()}
