"""What packs hold beside their frames, kept in memory for those that were opened last."""

from __future__ import annotations

from dataclasses import dataclass, field

from leanpacs.archive.giveback.lastused import LastUsed
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
class KnownPack:
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


class Shelf(LastUsed[Digest, KnownPack]):
    """Packs that were opened last, by digest. Packs never change, so nothing on it grows old.

    Parameters
    ----------
    limit_bytes : int
        Memory that all of them may take, about.
    """

    def __init__(self, limit_bytes: int) -> None:
        super().__init__(limit_bytes, lambda opened: opened.size_bytes)
