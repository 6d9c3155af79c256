"""Zstandard frames with trained dictionaries, for the many small headers of an archive.

Headers of one kind are nearly equal, and each is too short to be compressed well by itself. A dictionary
holds what they have in common. It is named in each frame that was made with it, is never changed, and is kept
in every store that holds such frames, under ``dictionaries/``.

References
----------
RFC 8878 (Zstandard frames: 3.1.1, dictionaries: 5).
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from importlib import resources
from itertools import chain

import zstandard

from leanpacs.errors import DictionaryMissing, NameTaken, PackError, StorageError
from leanpacs.storage.store import CHUNK_BYTES, BlobStore

ANY_SCOPE = "*"
"""Scope of a dictionary that is used where there is none for the scope asked for."""

DEFAULT_SIZE_BYTES = 112_640
"""Largest dictionary that is trained, the size that zstd itself takes as default."""

LEVELS = ((32 << 10, 15), (512 << 10, 10))
"""Compression level by length of content: up to so many bytes, this level. Measured: 0.1 to 0.9 ms for a header
of up to 32 kB, 1.5 ms for one of 100 kB."""

LEVEL_OF_LARGE = 6
"""Compression level above the last length of ``LEVELS``, and of streams."""

LARGEST_WITH_DICTIONARY = 512 << 10
"""Longer content gains nothing from a dictionary."""

MAX_WINDOW_BYTES = 8 << 20
"""Frames that need a larger window are refused; what is written here never does (RFC 8878, 3.1.1.1.2)."""

LONGEST_FRAME_HEADER = 18
"""Bytes of a frame that say which dictionary it needs."""

_FOLDER = "dictionaries"
_RECORD_FORMAT = 1
_MAGIC = b"\x37\xa4\x30\xec"
_FRAME_MAGIC = b"\x28\xb5\x2f\xfd"
_FIRST_ID, _END_ID = 1 << 15, 1 << 31  # RFC 8878, 5: what lies below and above is reserved
_LEAST_SAMPLES = 8
_LEAST_TRAINED_BYTES = 4 << 10
_MOST_TRAINED_BYTES = 16 << 20
_AT_ONCE_BYTES = 1 << 20
_SLICE_BYTES = 1 << 10  # of a frame at a time: inflates to 32 MB at the very most


@dataclass(frozen=True, slots=True)
class Dictionary:
    """A trained dictionary.

    Parameters
    ----------
    id : int
        The number in the frames that need it, 32768 to 2**31 - 1, derived from the content.
    scope : str
        What it was trained for, such as a modality or SOP class; ``*`` for anything.
    version : int
        The newest version of a scope is used for writing.
    data : bytes
        The dictionary in the format of RFC 8878, section 5: what ``zstd -D`` takes.
    samples : int
        Number of headers it was trained on.
    trained_at : datetime
        When (aware, UTC).
    """

    id: int
    scope: str
    version: int
    data: bytes
    samples: int
    trained_at: datetime

    def __post_init__(self) -> None:
        if self.data[:8] != _MAGIC + self.id.to_bytes(4, "little"):
            raise StorageError(f"what should be dictionary {self.id} is none, or another")

    @property
    def record(self) -> bytes:
        """The facts about it as JSON, as they are kept beside the dictionary."""
        facts = {
            "dictionary": _RECORD_FORMAT,
            "id": self.id,
            "scope": self.scope,
            "version": self.version,
            "samples": self.samples,
            "trained_at": self.trained_at.astimezone(UTC).isoformat(timespec="seconds"),
            "sha256": hashlib.sha256(self.data).hexdigest(),
        }
        return json.dumps(facts, separators=(",", ":")).encode()


def train(
    samples: Sequence[bytes],
    *,
    scope: str,
    version: int,
    size_bytes: int = DEFAULT_SIZE_BYTES,
    trained_at: datetime | None = None,
    trials: int = 4,
) -> Dictionary:
    """Train a dictionary; equal samples give an equal dictionary (with one version of Zstandard).

    Parameters
    ----------
    samples : sequence of bytes
        Headers as they will be compressed; some hundreds, best 100 times ``size_bytes`` in all. Of more than
        16 MB, evenly spaced ones are taken.
    scope, version : str, int
        What it is for, and its place among those of this scope.
    size_bytes : int
        Length of the dictionary at most; it is shorter when there is little to learn.
    trained_at : datetime, optional
        Aware time; now when absent.
    trials : int
        Number of settings of the trainer that are tried; time grows with it.

    Raises
    ------
    StorageError
        If the samples are too few or too short to learn from.
    """
    total = sum(map(len, samples))
    if len(samples) < _LEAST_SAMPLES or total < _LEAST_TRAINED_BYTES:
        raise StorageError(f"{len(samples)} samples of {total} bytes in all are too few to learn from")
    taken: list[bytes | bytearray | memoryview] = list(samples[:: 1 + total // _MOST_TRAINED_BYTES])
    level = LEVELS[0][1]
    try:
        trained = zstandard.train_dictionary(size_bytes, taken, d=8, steps=trials, level=level).as_bytes()
    except zstandard.ZstdError as error:
        raise StorageError(f"{len(samples)} samples are too few or too short: {error}") from error
    content = trained[8:]
    digest = int.from_bytes(hashlib.sha256(content).digest(), "big")
    number = _FIRST_ID + digest % (_END_ID - _FIRST_ID)
    data = _MAGIC + number.to_bytes(4, "little") + content
    return Dictionary(number, scope, version, data, len(taken), trained_at or datetime.now(UTC))


# ------------------------------------------------------------------------------------- in a store


def save(store: BlobStore, dictionary: Dictionary) -> None:
    """Keep a dictionary in a store; the same once more changes nothing.

    Raises
    ------
    NameTaken
        If the store has another dictionary of this id.
    """
    store.keep(f"{_FOLDER}/{dictionary.id}.dict", dictionary.data)
    name = f"{_FOLDER}/{dictionary.id}.json"
    if name not in store.kept_names():  # the first name and time given to a content stay
        try:
            store.keep(name, dictionary.record)
        except NameTaken:
            load_all(store)  # another process was first, with a record as good


def load_all(store: BlobStore) -> list[Dictionary]:
    """Every dictionary of a store, by scope and version.

    Raises
    ------
    StorageError
        If one is damaged.
    """
    names = set(store.kept_names())
    found = []
    for name in names:
        data_name = name.removesuffix(".json") + ".dict"
        if name.startswith(f"{_FOLDER}/") and name.endswith(".json") and data_name in names:
            found.append(_parse(store.kept(name), store.kept(data_name)))
    return sorted(found, key=lambda one: (one.scope, one.version, one.id))


def shipped() -> Dictionary:
    """The dictionary that comes with the package, for any header; trained on synthetic ones."""
    folder = resources.files("leanpacs.storage")
    return _parse(folder.joinpath("shipped.json").read_bytes(), folder.joinpath("shipped.dict").read_bytes())


def _parse(record: bytes, data: bytes) -> Dictionary:
    try:
        facts = json.loads(record)
        if facts["dictionary"] != _RECORD_FORMAT or hashlib.sha256(data).hexdigest() != facts["sha256"]:
            raise StorageError(f"dictionary {facts['id']} is damaged, or of a later format")
        moment = datetime.fromisoformat(facts["trained_at"])
        return Dictionary(facts["id"], facts["scope"], facts["version"], data, facts["samples"], moment)
    except (ValueError, KeyError, TypeError) as error:
        raise StorageError(f"the record of a dictionary is damaged: {error!r}") from error


# -------------------------------------------------------------------------------------- compressing


class Compressor:
    """Makes Zstandard frames that stock tools open; safe to use from many threads, and can be pickled.

    Each frame carries its content's length, a checksum, and the id of the dictionary it needs, if any.

    Parameters
    ----------
    dictionaries : sequence of Dictionary
        Those that may be used.
    level : int, optional
        Compression level, -7 to 19; by length (``LEVELS``) when absent.
    """

    def __init__(self, dictionaries: Sequence[Dictionary] = (), level: int | None = None) -> None:
        self._dictionaries = tuple(dictionaries)
        self._level = level
        self._newest: dict[str, Dictionary] = {}
        for one in sorted(dictionaries, key=lambda one: (one.version, one.trained_at, one.id)):
            self._newest[one.scope] = one
        self._prepared: dict[tuple[int, int], zstandard.ZstdCompressionDict] = {}
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[type[Compressor], tuple[tuple[Dictionary, ...], int | None]]:
        return Compressor, (self._dictionaries, self._level)

    def compress(self, data: bytes, scopes: Sequence[str] = ()) -> bytes:
        """Compress into one frame.

        Parameters
        ----------
        data : bytes
            All of the content.
        scopes : sequence of str
            The newest dictionary of the first scope that has one is used, else that of scope ``*``, else none.
            None is used where that is smaller, and for content above ``LARGEST_WITH_DICTIONARY``.
        """
        level = self._level_for(len(data))
        chosen = self._choose(scopes) if len(data) <= LARGEST_WITH_DICTIONARY else None
        if chosen is None:
            return _compressor(level).compress(data)
        framed = _compressor(level, self._prepare(chosen, level)).compress(data)
        if len(framed) <= len(data) // 2:  # it fits; trying without would double the time
            return framed
        return min(framed, _compressor(level).compress(data), key=len)

    def stream(self, chunks: Iterable[bytes], *, size: int | None = None) -> Iterator[bytes]:
        """Compress large content into one frame, without a dictionary (it gains nothing there).

        Raises
        ------
        ValueError
            If ``size`` is given and the chunks are not as long in all.
        """
        try:
            frame = _compressor(self._level_for(CHUNK_BYTES)).compressobj(size=-1 if size is None else size)
            for chunk in chunks:
                if piece := frame.compress(chunk):
                    yield piece
            yield frame.flush()
        except zstandard.ZstdError as error:
            raise ValueError(f"the content has not {size} bytes: {error}") from error

    def _choose(self, scopes: Sequence[str]) -> Dictionary | None:
        names = (*scopes, ANY_SCOPE)
        return next((self._newest[name] for name in names if name in self._newest), None)

    def _level_for(self, length: int) -> int:
        if self._level is not None:
            return self._level
        return next((level for limit, level in LEVELS if length <= limit), LEVEL_OF_LARGE)

    def _prepare(self, dictionary: Dictionary, level: int) -> zstandard.ZstdCompressionDict:
        """The dictionary digested for a level: milliseconds once, then shared by all threads."""
        with self._lock:
            key = (dictionary.id, level)
            if key not in self._prepared:
                prepared = zstandard.ZstdCompressionDict(dictionary.data)
                prepared.precompute_compress(level=level)
                self._prepared[key] = prepared
            return self._prepared[key]


def _compressor(level: int, dictionary: zstandard.ZstdCompressionDict | None = None) -> zstandard.ZstdCompressor:
    # A new one for each frame costs 10 to 50 microseconds; kept ones must not be shared by threads.
    return zstandard.ZstdCompressor(
        level=level,
        dict_data=dictionary,
        write_checksum=True,
        write_content_size=True,
        write_dict_id=True,
    )


# ------------------------------------------------------------------------------------ decompressing


def dictionary_id(frame: bytes) -> int:
    """Id of the dictionary that a frame needs; 0 when it needs none.

    Parameters
    ----------
    frame : bytes
        The frame, or its first 18 bytes.
    """
    return _parameters(frame).dict_id


def decompress(frame: bytes, dictionaries: Sequence[Dictionary], max_size: int) -> bytes:
    """Content of one frame.

    Raises
    ------
    PackError
        If the bytes are not one whole, undamaged frame of at most ``max_size`` bytes of content.
    DictionaryMissing
        If it needs a dictionary that is not among ``dictionaries``.
    """
    declared = _parameters(frame).content_size
    if declared > _AT_ONCE_BYTES:  # unknown is larger than any: no memory on the word of a header
        return b"".join(decompress_chunks([frame], dictionaries, max_size=max_size))
    if declared > max_size:
        raise PackError(f"a frame holds {declared} bytes, more than {max_size}")
    try:
        return _decompressor(frame, dictionaries).decompress(frame, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise PackError(f"a Zstandard frame is damaged: {error}") from error


def decompress_chunks(
    chunks: Iterable[bytes], dictionaries: Sequence[Dictionary], *, max_size: int | None = None
) -> Iterator[bytes]:
    """Content of one frame that comes in chunks, in pieces of some megabytes; errors as ``decompress``."""
    source = iter(chunks)
    start = b""
    while len(start) < LONGEST_FRAME_HEADER and (more := next(source, None)) is not None:
        start += more
    frame = _decompressor(start, dictionaries).decompressobj(write_size=_SLICE_BYTES << 4)
    total = 0
    pieces = bytearray()
    try:
        for part in _slices(chain([start], source)):
            if frame.eof:
                raise PackError("there are bytes after the end of a Zstandard frame")
            pieces += frame.decompress(part)
            if max_size is not None and total + len(pieces) > max_size:
                raise PackError(f"a frame holds more than {max_size} bytes")
            if len(pieces) >= CHUNK_BYTES:
                total += len(pieces)
                yield bytes(pieces)
                pieces.clear()
    except zstandard.ZstdError as error:
        raise PackError(f"a Zstandard frame is damaged: {error}") from error
    if not frame.eof or frame.unused_data:
        raise PackError("a Zstandard frame ends early, or bytes follow it")
    yield bytes(pieces)


def _slices(chunks: Iterable[bytes]) -> Iterator[memoryview]:
    for chunk in chunks:
        view = memoryview(chunk)
        for at in range(0, len(view), _SLICE_BYTES):
            yield view[at : at + _SLICE_BYTES]


def _parameters(frame: bytes) -> zstandard.FrameParameters:
    if not frame.startswith(_FRAME_MAGIC):
        raise PackError("what should be a Zstandard frame is none")
    try:
        return zstandard.get_frame_parameters(frame)
    except zstandard.ZstdError as error:
        raise PackError(f"a Zstandard frame is damaged: {error}") from error


def _decompressor(frame: bytes, dictionaries: Sequence[Dictionary]) -> zstandard.ZstdDecompressor:
    wanted = dictionary_id(frame)
    if not wanted:
        return zstandard.ZstdDecompressor(max_window_size=MAX_WINDOW_BYTES)
    for one in dictionaries:
        if one.id == wanted:
            return zstandard.ZstdDecompressor(dict_data=_digested(one), max_window_size=MAX_WINDOW_BYTES)
    raise DictionaryMissing(wanted)


@lru_cache(maxsize=16)
def _digested(dictionary: Dictionary) -> zstandard.ZstdCompressionDict:
    """A dictionary that is made ready for unpacking once; any number of threads may use it."""
    return zstandard.ZstdCompressionDict(dictionary.data)
