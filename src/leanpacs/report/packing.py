"""What the archive itself would store: a real pack, made by the archive's own encoder, rebuilt and compared."""

from __future__ import annotations

import hashlib
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import BinaryIO, Final, cast

from leanpacs import __version__
from leanpacs.archive.giveback.rebuild import PackedInstance
from leanpacs.archive.manifest import Form, Manifest, Received
from leanpacs.archive.settle.encode import Preferences, SeriesChoices, encode
from leanpacs.codecs import registry
from leanpacs.codecs.presets import preset
from leanpacs.dicom.attributes import index
from leanpacs.dicom.frames import FrameSpec
from leanpacs.refs import Digest
from leanpacs.report.formats import NOT_EXACT, PRESETS
from leanpacs.report.results import Format
from leanpacs.storage.dictionary import Compressor, Dictionary, shipped
from leanpacs.transcode.content import Content

LARGEST: Final = 256 << 20
"""Instances above this many bytes are not packed whole but projected: it would take minutes for one."""

ENTRY_BYTES: Final = 110
"""What the container takes for each frame: local header, directory entry, two names."""

CONTAINER_BYTES: Final = 1000
"""What it takes besides: manifest, the other entries."""

_IN_MEMORY: Final = 64 << 20


@dataclass(frozen=True, slots=True)
class Packed:
    """A pack; ``raw_bytes`` is what the times are for (0: the whole instance), ``reason`` why it does not count."""

    size_bytes: int
    raw_bytes: int
    encode_seconds: float
    decode_seconds: float
    reason: str = ""


def presets(keys: Iterable[str]) -> list[str]:
    """The presets of the archive among the formats asked for."""
    return [key for key in keys if key in PRESETS]


def _name(key: str) -> str:
    return key.removeprefix("leanpacs-")


def describe(key: str) -> Format:
    """What a preset is, for the report."""
    return Format(key, f"LeanPACS {_name(key)}", "leanpacs", f"leanpacs {__version__}")


def pack(key: str, content: Content) -> Packed:
    """Make a pack of an instance, rebuild what was received from it, and compare the digests.

    The codec is chosen first, as for the first instance of a series; the times are those of the second pack, made
    with that choice, as for all others.
    """
    facts = _facts(content)
    scopes = (facts.sop_class,)
    with tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY) as spooled:
        file = cast("BinaryIO", spooled)
        preferences = Preferences(SeriesChoices(), 0, scopes, recode=True, preset=_name(key))
        begin = time.process_time()
        encoded = encode(content, facts, file, _compressor(), preferences)
        if encoded.choice is not None:
            preferences = replace(preferences, choices=SeriesChoices().having(encoded.choice))
            begin = time.process_time()
            encoded = encode(content, facts, file, _compressor(), preferences)
        middle = time.process_time()
        file.seek(0)
        is_same = PackedInstance(file, _dictionaries()).digest() == facts.digest
        end = time.process_time()
    reason = "" if is_same else NOT_EXACT
    return Packed(encoded.packed.size_bytes, 0, middle - begin, end - middle, reason)


def project(key: str, head: bytes, spec: FrameSpec, native: Sequence[bytes]) -> Packed:
    """What a pack would take, from some frames of a large instance; those are decoded and compared.

    Parameters
    ----------
    head : bytes
        Everything but the pixels.
    spec : FrameSpec
        The frames; ``number_of_frames`` is that of the instance.
    native : sequence of bytes
        The frames that stand for all.
    """
    best = preset(_name(key)).choose(native[len(native) // 2], spec)
    codec = registry.by_name(best.codec)
    begin = time.process_time()
    streams = [registry.encode_frame(codec, frame, spec, best.options) for frame in native]
    middle = time.process_time()
    back = [registry.decode_frame(codec, stream, spec, best.options) for stream in streams]
    end = time.process_time()
    mean = sum(map(len, streams)) / len(streams) + ENTRY_BYTES
    size = CONTAINER_BYTES + len(_compressor().compress(head)) + mean * spec.number_of_frames
    raw_bytes = sum(map(len, native))
    return Packed(round(size), raw_bytes, middle - begin, end - middle, "" if back == list(native) else NOT_EXACT)


def _facts(content: Content) -> Manifest:
    """What ingest would know of the instance; its digest is that of the data set as received."""
    received, layout = content.received, content.layout
    length = received.seek(0, 2)
    received.seek(layout.preface_length)
    sha = hashlib.sha256()
    while chunk := received.read(1 << 20):
        sha.update(chunk)
    digest = Digest(sha.digest())
    known = index(layout, digest)
    return Manifest(
        study_uid=known.study_uid,
        series_uid=known.series_uid,
        sop_uid=known.sop_uid,
        sop_class=known.sop_class,
        transfer_syntax=layout.transfer_syntax,
        length=length - layout.preface_length,
        digest=digest,
        form=Form.WHOLE,
        received=Received("2000-01-01T00:00:00+00:00", "", "analyze"),
        preface=layout.preface_length,
    )


@lru_cache(maxsize=1)
def _dictionaries() -> tuple[Dictionary, ...]:
    return (shipped(),)


@lru_cache(maxsize=1)
def _compressor() -> Compressor:
    return Compressor(_dictionaries())
