"""In which form an instance or its frames go out: media type and transfer syntax by what the request accepts.

References
----------
PS3.18 8.7.3 (DICOM media types and transfer syntaxes), PS3.18 8.7.8 (selected media type).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import groupby
from operator import attrgetter
from typing import Final

from leanpacs.codecs import registry
from leanpacs.codecs.writing import WriteOptions, is_lossy
from leanpacs.dicom.uids import (
    EXPLICIT_BE,
    EXPLICIT_LE,
    HTJ2K_LOSSLESS,
    IMPLICIT_LE,
    JPEG_2000_LOSSLESS,
    JPEG_LOSSLESS_SV1,
    JPEG_LS_LOSSLESS,
    JPEG_XL_LOSSLESS,
    JPEG_XL_RECOMPRESSION,
    RLE,
    transfer_syntax,
)
from leanpacs.services.dicomweb.media import ANY_SYNTAX, DICOM, OCTETS, MediaRange
from leanpacs.transcode.target import targets

_NOT_FOR_THE_WEB: Final = frozenset({IMPLICIT_LE, EXPLICIT_BE})
"""Not to be used with web services (PS3.18 8.7.3), so sent only to those who ask for them by name."""

_ANY_IMAGE: Final = "image/*"
_DEFAULT_SYNTAX: Final = {
    "image/jpeg": JPEG_LOSSLESS_SV1,
    "image/dicom-rle": RLE,
    "image/jls": JPEG_LS_LOSSLESS,
    "image/jp2": JPEG_2000_LOSSLESS,
    "image/jphc": HTJ2K_LOSSLESS,
    "image/jxl": JPEG_XL_LOSSLESS,
}
"""Default transfer syntax of each media type of a frame (PS3.18 table 8.7.3-5)."""


@dataclass(frozen=True, slots=True)
class InstanceForm:
    """A form in which an instance can go out.

    Attributes
    ----------
    transfer_syntax : str
        UID.
    multipart : bool
        Whether it comes in multipart/related.
    by_name : bool
        Whether the request names this transfer syntax, so that no other will do.
    any_will_do : bool
        Whether any other one will do as well.
    """

    transfer_syntax: str
    multipart: bool
    by_name: bool = False
    any_will_do: bool = False


@dataclass(frozen=True, slots=True)
class FrameForm:
    """A form in which frames can go out.

    Attributes
    ----------
    media_type : str
        Of each frame.
    transfer_syntax : str
        UID of the code streams, Explicit VR Little Endian for native frames.
    multipart : bool
        Whether they come in multipart/related.
    """

    media_type: str
    transfer_syntax: str
    multipart: bool


Order = Callable[[Sequence[str]], Sequence[str]]
"""Puts transfer syntaxes in order, the one first that is to be preferred."""


def instance_form(
    received: str, ranges: Sequence[MediaRange], *, alone: bool, ranged: bool = False, order: Order | None = None
) -> InstanceForm | None:
    """Return the form in which an instance goes out as application/dicom.

    Of equally good ones, the first by ``order``.

    Parameters
    ----------
    received : str
        Transfer syntax UID as received.
    ranges : sequence of MediaRange
        What is accepted, the best first.
    alone : bool
        It is the only one in the answer, which may then be a single part.
    ranged : bool
        A part of the bytes is asked for, which single parts have.
    order : callable, optional
        Asked only where there is a choice; as received first by default.

    Returns
    -------
    InstanceForm or None
        None when no acceptable form can be made.
    """
    fitting = [a for a in ranges if a.covers(DICOM) and (alone or a.multipart is not False)]
    for equal in _by_quality(fitting):
        found = [
            InstanceForm(
                uid,
                is_multipart(accepted, ranged=ranged and alone),
                uid == accepted.transfer_syntax,
                accepted.transfer_syntax == ANY_SYNTAX,
            )
            for accepted in equal
            if (uid := _satisfied(received, accepted.transfer_syntax))
        ]
        if found:
            return min(found, key=_rank((form.transfer_syntax for form in found), received, order))
    return None


def _rank(syntaxes: Iterable[str], received: str, order: Order | None) -> Callable[[InstanceForm | FrameForm], int]:
    """What forms are sorted by."""
    different = list(dict.fromkeys(syntaxes))
    if order is None or len(different) == 1:
        return lambda form: form.transfer_syntax != received
    places = {uid: place for place, uid in enumerate(order(different))}
    return lambda form: places[form.transfer_syntax]


def is_multipart(accepted: MediaRange, *, ranged: bool = False) -> bool:
    """Whether an answer comes in multipart/related; where either will do, a request for a byte range decides."""
    return not ranged if accepted.multipart is None else accepted.multipart


def frame_forms(
    received: str, ranges: Sequence[MediaRange], *, ranged: bool = False, order: Order | None = None
) -> list[FrameForm]:
    """Return the acceptable forms of the frames of an instance, the best first.

    Parameters
    ----------
    received : str
        Transfer syntax UID as received.
    ranges : sequence of MediaRange
        What is accepted, the best first.
    ranged : bool
        A part of the bytes is asked for, which single parts have.
    order : callable, optional
        As for `instance_form`.

    Returns
    -------
    list of FrameForm
        What is worth trying; whether a compressed form that was not received is at hand, the archive knows.
    """
    forms: list[FrameForm] = []
    for equal in _by_quality(ranges):
        found = [form for accepted in equal for form in _range_forms(received, accepted, ranged=ranged)]
        if found:
            forms += sorted(found, key=_rank((form.transfer_syntax for form in found), received, order))
    return list(dict.fromkeys(forms))


def can_be_native(received: str) -> bool:
    """Whether instances of this transfer syntax can, as a rule, be had in Explicit VR Little Endian."""
    syntax = transfer_syntax(received)
    return not syntax.encapsulated or registry.for_transfer_syntax(received) is not None


def default_syntax(received: str) -> str:
    """Transfer syntax for those who name none.

    Explicit VR Little Endian; as received when that is lossy or cannot be decoded (PS3.18 8.7.3).
    """
    if transfer_syntax(received).lossless is False or not can_be_native(received):
        return received
    return EXPLICIT_LE


def _by_quality(ranges: Sequence[MediaRange]) -> Iterator[list[MediaRange]]:
    for _, equal in groupby(ranges, key=attrgetter("quality")):
        yield list(equal)


def _satisfied(received: str, wanted: str | None) -> str | None:
    """Return the transfer syntax that answers to what one range asks for, None when there is none."""
    if wanted is None:
        return default_syntax(received)
    if wanted == ANY_SYNTAX:
        return EXPLICIT_LE if received in _NOT_FOR_THE_WEB else received
    if wanted == received or (can_be_native(received) and wanted in lossless_targets()):
        return wanted
    if wanted == JPEG_XL_RECOMPRESSION or received == JPEG_XL_RECOMPRESSION:
        return wanted if wanted in targets() else None
    return None


@cache
def lossless_targets() -> frozenset[str]:
    """UIDs of the transfer syntaxes that instances are transcoded to: no answer loses anything."""
    return frozenset(uid for uid in targets() if not is_lossy(uid, WriteOptions()))


def _range_forms(received: str, accepted: MediaRange, *, ranged: bool) -> list[FrameForm]:
    multipart = is_multipart(accepted, ranged=ranged)
    streams = _streams(received, accepted)
    return [FrameForm(media_type, uid, multipart) for media_type, uid in streams if accepted.covers(media_type)]


def _streams(received: str, accepted: MediaRange) -> list[tuple[str, str]]:
    """Media types and transfer syntaxes of frames that answer to one range."""
    wanted = accepted.transfer_syntax
    if wanted is None:
        return _default_streams(received, accepted)
    uid = received if wanted == ANY_SYNTAX else wanted
    if _is_native(uid):
        return [(OCTETS, EXPLICIT_LE)] if accepted.covers(OCTETS) else []
    # A viewer that asks for octets in any syntax tells them apart by the transfer-syntax parameter.
    names = (transfer_syntax(uid).media_type, OCTETS)
    return [(name, uid) for name in names if accepted.covers(name)][:1]


def _default_streams(received: str, accepted: MediaRange) -> list[tuple[str, str]]:
    stream_type = transfer_syntax(received).media_type
    compressed = not _is_native(received)
    if accepted.name == "*/*":
        lossy = default_syntax(received) == received and compressed
        return [(stream_type, received)] if lossy else [(OCTETS, EXPLICIT_LE)]
    found = [(OCTETS, EXPLICIT_LE)] if accepted.covers(OCTETS) else []
    if compressed and accepted.covers(stream_type):
        found.append((stream_type, received))
    named = (accepted.name,) if found or accepted.name != _ANY_IMAGE else tuple(_DEFAULT_SYNTAX)
    return found + [(name, uid) for name, uid in _DEFAULT_SYNTAX.items() if name in named and uid != received]


def _is_native(uid: str) -> bool:
    """Whether frames of this transfer syntax are plain samples."""
    syntax = transfer_syntax(uid)
    return not syntax.encapsulated or syntax.media_type == OCTETS
