"""Media types: what a request accepts, and which of our forms that is.

References
----------
RFC 9110 12.5.1 (Accept), PS3.18 8.7 (media types of DICOMweb), PS3.18 8.3.3.1 (``accept`` as a parameter).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Final

DICOM: Final = "application/dicom"
DICOM_JSON: Final = "application/dicom+json"
DICOM_XML: Final = "application/dicom+xml"
JSON: Final = "application/json"
OCTETS: Final = "application/octet-stream"
ANY_SYNTAX: Final = "*"

_LARGEST_ACCEPT: Final = 100
_LONGEST_KNOWN: Final = 1024
_NAME = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_PARAMETER: Final = re.compile(rf'\s*;\s*({_NAME})\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s;,"]*))')
_MEDIA_TYPE: Final = re.compile(rf"\s*({_NAME}/{_NAME})")
_SYNTAX: Final = re.compile(r"\*|[0-9.]{1,64}")


@dataclass(frozen=True, slots=True)
class MediaType:
    """A media type with its parameters, as in Content-Type; names in lower case."""

    name: str
    parameters: tuple[tuple[str, str], ...] = ()

    def get(self, parameter: str) -> str | None:
        """Value of a parameter, or None."""
        return next((value for name, value in self.parameters if name == parameter), None)


@dataclass(frozen=True, slots=True)
class MediaRange:
    """One thing that a request accepts.

    Attributes
    ----------
    name : str
        The media type of one part; may be ``image/*`` or ``*/*``.
    multipart : bool or None
        Whether it is to come in multipart/related; None: either way.
    transfer_syntax : str or None
        UID; ``*``: any; None: the default of the media type.
    quality : float
        0 < quality <= 1.
    refused : frozenset of str
        Media types of one part that a wildcard does not stand for: the same request gives them quality 0.
    """

    name: str
    multipart: bool | None = None
    transfer_syntax: str | None = None
    quality: float = 1.0
    refused: frozenset[str] = frozenset()

    def covers(self, name: str) -> bool:
        """Whether a body of media type ``name`` is one of these."""
        if name in self.refused:
            return False
        kind, _, subtype = self.name.partition("/")
        return self.name in ("*/*", name) or (subtype == "*" and name.startswith(kind + "/"))


ANYTHING: Final = MediaRange("*/*")


def parse_media_type(text: str) -> MediaType | None:
    """Read one media type with parameters; None when it is not one."""
    found = _media_type_at(text, 0)
    if found is None or text[found[1] :].strip(" \t;"):
        return None
    return found[0]


def parse_accept(text: str) -> list[MediaRange]:
    """Read an Accept header (or parameter); the best first, equally good ones in the order given.

    What is not understood is passed over. Ranges of quality 0 are taken out of wildcards (RFC 9110 12.5.1).
    """
    return list(_ranges_of(text) if len(text) > _LONGEST_KNOWN else _known_ranges(text))


def _ranges_of(text: str) -> tuple[MediaRange, ...]:
    ranges: list[MediaRange] = []
    position = 0
    while position < len(text) and len(ranges) < _LARGEST_ACCEPT:
        found = _media_type_at(text, position)
        if found is not None and (accepted := _range_of(found[0])) is not None:
            ranges.append(accepted)
        position = _next_item(text, found[1] if found else position)
    refused = frozenset(accepted.name for accepted in ranges if not accepted.quality)
    taken = (
        replace(accepted, refused=refused) if "*" in accepted.name else accepted
        for accepted in ranges
        if accepted.quality
    )
    return tuple(sorted(taken, key=lambda accepted: -accepted.quality))


_known_ranges: Final = lru_cache(maxsize=256)(_ranges_of)
"""A client says the same each time."""


def with_syntax(name: str, uid: str) -> str:
    """Return a media type with its transfer syntax; without, when what a sender wrote there is no UID."""
    return f"{name}; transfer-syntax={uid}" if _SYNTAX.fullmatch(uid) else name


def accepted(header: str | None, parameter: str | None = None) -> list[MediaRange]:
    """Return what a request accepts; the ``accept`` query parameter goes before the header (PS3.18 8.3.3.1).

    A request that names nothing accepts anything.
    """
    for text in (parameter, header):
        if text is not None and text.strip():
            return parse_accept(text)
    return [ANYTHING]


def choose(ranges: Sequence[MediaRange], offers: Iterable[str]) -> str | None:
    """Return the offer that is accepted best, of equally good ones the earliest; syntaxes do not count.

    The most specific range that covers an offer decides its quality (RFC 9110 12.5.1).
    """
    best: tuple[float, str] | None = None
    for offer in offers:
        quality = _quality(ranges, offer)
        if quality > 0 and (best is None or quality > best[0]):
            best = (quality, offer)
    return best[1] if best else None


def _quality(ranges: Sequence[MediaRange], offer: str) -> float:
    covering = [accepted for accepted in ranges if accepted.covers(offer)]
    if not covering:
        return 0.0
    return max(covering, key=lambda accepted: (-accepted.name.count("*"), accepted.quality)).quality


def _media_type_at(text: str, position: int) -> tuple[MediaType, int] | None:
    match = _MEDIA_TYPE.match(text, position)
    if match is None:
        return None
    name, position = match[1].lower(), match.end()
    parameters: list[tuple[str, str]] = []
    while match := _PARAMETER.match(text, position):
        value = re.sub(r"\\(.)", r"\1", match[2]) if match[2] is not None else match[3]
        parameters.append((match[1].lower(), value))
        position = match.end()
    return MediaType(name, tuple(parameters)), position


def _next_item(text: str, position: int) -> int:
    """Position after the next comma that is not within quotes."""
    quoted = False
    while position < len(text):
        character = text[position]
        if character == "\\" and quoted:
            position += 1
        elif character == '"':
            quoted = not quoted
        elif character == "," and not quoted:
            return position + 1
        position += 1
    return position


def _range_of(media_type: MediaType) -> MediaRange | None:
    quality = _quality_value(media_type.get("q"))
    syntax = media_type.get("transfer-syntax")
    if quality is None or (syntax is not None and not _SYNTAX.fullmatch(syntax)):
        return None
    if media_type.name in ("multipart/related", "multipart/*"):
        part = (media_type.get("type") or "*/*").lower()
        return MediaRange(part, True, syntax, quality) if _MEDIA_TYPE.fullmatch(part) else None
    return MediaRange(media_type.name, None if media_type.name == "*/*" else False, syntax, quality)


def _quality_value(text: str | None) -> float | None:
    if text is None:
        return 1.0
    return min(float(text), 1.0) if re.fullmatch(r"[01](\.\d{0,3})?", text.strip()) else None
