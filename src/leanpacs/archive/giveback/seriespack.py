"""Series packs opened for reading: one ZIP file that holds many instances of a series.

Heads, layouts and tails of the instances lie one after the other in a few Zstandard frames, for those of one series
are nearly equal; code streams stay separate entries. The format is in docs/reference/pack-format.md.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, BinaryIO, Final

from leanpacs.archive.giveback.rebuild import LARGEST_HEAD, PackContents, PackedInstance
from leanpacs.archive.manifest import HEAD, Manifest
from leanpacs.errors import PackError
from leanpacs.refs import Digest
from leanpacs.storage.dictionary import Dictionary, decompress
from leanpacs.storage.pack import Entry, PackReader

SERIES: Final = "series.zst"
"""The entry that tells a series pack: the manifests of all instances, as a JSON array."""

PIECES: Final = "pieces"
"""In such a manifest: where the content of head, layout and tail is, as [block, offset, length]."""

LARGEST_BLOCK: Final = 64 << 20
_LARGEST_INDEX: Final = 256 << 20


def block_name(number: int) -> str:
    """Entry name of a block of pieces, counting from 1."""
    return f"heads/{number:05d}.zst"


def prefix_of(place: int) -> str:
    """What stands before the names of the frames of an instance, by its place in the pack, counting from 1."""
    return f"{place:05d}/"


class SeriesPack:
    """A series pack.

    Parameters
    ----------
    file : BinaryIO
        The pack, seekable; it stays open.

    Raises
    ------
    PackError
        If it is none.
    """

    def __init__(self, file: BinaryIO) -> None:
        self.reader = PackReader(file)
        text = decompress(self.reader.read(SERIES), (), _LARGEST_INDEX)
        try:
            self._records: list[dict[str, Any]] = json.loads(text)
            self._places = {record["instance"]: place for place, record in enumerate(self._records, 1)}
        except (ValueError, LookupError, TypeError) as error:
            raise PackError(f"the index of the series pack is not valid: {error!r}") from error
        self._block: tuple[int, bytes] = (0, b"")

    def __iter__(self) -> Iterator[SeriesMember]:
        return (SeriesMember(self, record, prefix_of(place)) for place, record in enumerate(self._records, 1))

    def member(self, sop_uid: str) -> SeriesMember:
        """The instance of a SOP Instance UID.

        Raises
        ------
        PackError
            It is not in the pack.
        """
        place = self._places.get(sop_uid)
        if place is None:
            raise PackError(f"the series pack does not hold {sop_uid}")
        return SeriesMember(self, self._records[place - 1], prefix_of(place))

    def block(self, number: int) -> bytes:
        """Content of a block of pieces; the one read last is remembered."""
        if self._block[0] != number:
            self._block = number, decompress(self.reader.read(block_name(number)), (), LARGEST_BLOCK)
        return self._block[1]


class SeriesMember(PackedInstance):
    """One instance of a series pack."""

    def __init__(self, pack: SeriesPack, record: Mapping[str, Any], prefix: str) -> None:
        self._pack = pack.reader
        self._dictionaries = ()
        self._series = pack
        self._pieces: Mapping[str, Sequence[int]] = record.get(PIECES, {})
        self._prefix = prefix
        self.manifest = Manifest.from_json(json.dumps(record).encode())

    @property
    def entries(self) -> Mapping[str, Entry]:
        """Where its frames are in the pack, by the names that they would have in a pack of its own."""
        return {
            name.removeprefix(self._prefix): entry
            for name, entry in self._pack.entries.items()
            if name.startswith(self._prefix)
        }

    @property
    def contents(self) -> PackContents:
        """See `PackedInstance`."""
        return PackContents(self.entries, self.manifest)

    def dictionary_id(self) -> int:
        """None is used."""
        return 0

    def unpacked(self, name: str) -> bytes:
        """See `PackedInstance`."""
        if name not in self._pieces:
            return b""
        number, offset, length = self._pieces[name]
        piece = self._series.block(number)[offset : offset + length]
        if length > LARGEST_HEAD or len(piece) != length:
            raise PackError(f"a block of the series pack ends within {name}")
        return piece

    def _head_chunks(self) -> Iterator[bytes]:
        yield self.unpacked(HEAD)

    def _entry_name(self, number: int) -> str:
        return self._prefix + self.manifest.frame_name(number)


def packed_instance(
    file: BinaryIO, dictionaries: Sequence[Dictionary], sop_uid: str, contents: PackContents | None = None
) -> PackedInstance:
    """An instance in a pack of its own, or in that of its series.

    Raises
    ------
    PackError
        If it is not a pack of a format that this release reads, or does not hold the instance.
    """
    if contents is None and is_series_pack(file):
        return SeriesPack(file).member(sop_uid)
    return PackedInstance(file, dictionaries, contents)


def is_series_pack(file: BinaryIO) -> bool:
    """Whether a pack holds several instances; it is left at its start."""
    file.seek(0)
    start = file.read(64)
    file.seek(0)
    return start[:2] == b"PK" and start[30 : 30 + len(SERIES)] == SERIES.encode()


def digest_of(file: BinaryIO, dictionaries: Sequence[Dictionary], sop_uid: str) -> Digest:
    """SHA-256 of the data set rebuilt from a pack."""
    return packed_instance(file, dictionaries, sop_uid).digest()
