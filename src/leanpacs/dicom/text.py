"""Text of a data set, decoded by its Specific Character Set.

Nothing here raises or warns: what a character set does not define is decoded with U+FFFD in its place.

References
----------
PS3.3 C.12.1.1.2 (Specific Character Set), PS3.5 6.1 (character repertoires, code extension).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from functools import lru_cache
from typing import Final

Encodings = tuple[str, ...]
"""Python codecs for the values of Specific Character Set, the first being the initial one; never empty."""

UNDECLARED: Final[Encodings] = ("",)
"""No character set is declared: ASCII by the standard, UTF-8 or Latin-1 where senders forgot to say so."""

VALUE_DELIMITERS: Final = b"\\\t\n\r\f"
NAME_DELIMITERS: Final = VALUE_DELIMITERS + b"^="

_DEFAULT_TERMS: Final = frozenset({"", "ISOIR6", "ISO2022IR6", "ASCII", "USASCII"})
_STAND_ALONE: Final = frozenset({"UTF8", "GB18030", "GBK"})
_ASCII, _ROMAJI = b"\x1b(B", b"\x1b(J"
_KEEPS_ESCAPES: Final = frozenset({"iso2022_jp", "iso2022_jp_2"})


def _bare(term: str) -> str:
    """Spelling of a defined term without what senders get wrong: case, spaces, hyphens and underscores."""
    return re.sub(r"[^A-Z0-9]", "", term.upper())


@lru_cache(maxsize=1)
def _codecs() -> Mapping[str, str]:
    # pydicom is imported when text needs it: it is large, and most processes only ever see ASCII.
    from pydicom.charset import python_encoding

    return {_bare(term): codec for term, codec in python_encoding.items()} | {"UTF8": "UTF8", "LATIN1": "latin_1"}


@lru_cache(maxsize=1)
def _escapes() -> Mapping[bytes, str]:
    from pydicom.charset import CODES_TO_ENCODINGS

    return CODES_TO_ENCODINGS


@lru_cache(maxsize=1)
def _designations() -> Mapping[str, bytes]:
    """Escape sequences by codec, for those that one sequence is enough for."""
    return {codec: escape for escape, codec in _escapes().items() if codec not in ("shift_jis", *_KEEPS_ESCAPES)}


@lru_cache(maxsize=256)
def encodings(specific_character_set: bytes) -> Encodings:
    """Codecs for the encoded value of Specific Character Set (0008,0005); unknown terms count as absent."""
    terms = [_bare(term) for term in specific_character_set.decode("latin_1").split("\\")]
    codecs = ["" if term in _DEFAULT_TERMS else _codecs().get(term, "") for term in terms]
    if codecs[0] in _STAND_ALONE or len(codecs) == 1:
        return (codecs[0],)
    # A term that stands alone is no extension (PS3.5 6.1.2.4); after an empty value 1 senders do mean it.
    if not codecs[0] and codecs[1] in _STAND_ALONE:
        return (codecs[1],)
    return tuple(codec for codec in codecs if codec not in _STAND_ALONE)


def decode(value: bytes, declared: Encodings = UNDECLARED, *, delimiters: bytes = VALUE_DELIMITERS) -> str:
    r"""Text of a value that Specific Character Set applies to (LO, LT, PN, SH, ST, UC, UT).

    Parameters
    ----------
    value : bytes
        The value as encoded. Padding is kept, backslashes stay in place.
    declared : tuple of str
        What `encodings` returned for the data set, or for the sequence item if it has a character set itself.
    delimiters : bytes
        Characters that end a switch to another character set: `NAME_DELIMITERS` for PN.
    """
    if value.isascii() and b"\x1b" not in value:
        return value.decode("ascii")
    if b"\x1b" not in value or declared[0] in _STAND_ALONE:
        return _decode_plain(value, declared[0])
    parts = re.split(b"(?=\x1b)", value)
    return "".join(_decode_part(part, declared[0], delimiters) for part in parts)


def encode(value: str, declared: Encodings, *, delimiters: bytes = VALUE_DELIMITERS) -> bytes:
    """Encode a text, with code extensions where several character sets are declared (PS3.5 6.1.2.5).

    Raises
    ------
    UnicodeEncodeError
        The character sets do not have all characters between two delimiters in one of them.
    """
    if value.isascii():
        return value.encode("ascii")
    if len(declared) == 1:
        return _encode_plain(value, declared[0])
    parts = re.split(f"([{re.escape(delimiters.decode('ascii'))}])", value)
    return b"".join(_encode_part(part, declared) for part in parts)


def decode_ascii(value: bytes) -> str:
    """Text of a value that Specific Character Set does not apply to (AE, AS, CS, DA, DS, IS, TM, UI, ...)."""
    return value.decode("ascii") if value.isascii() else _decode_plain(value, "")


def _decode_plain(value: bytes, codec: str) -> str:
    if codec:
        return value.decode(codec, "replace")
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        return value.decode("latin_1")


def _decode_part(part: bytes, initial: str, delimiters: bytes) -> str:
    """One run of text that starts with an escape sequence, or the run before the first one."""
    if not part.startswith(b"\x1b"):
        return _decode_plain(part, initial)
    length = 4 if part[1:3] in (b"$(", b"$)") else 3
    codec = _escapes().get(part[:length])
    if codec is None:
        return _decode_plain(part, initial)
    if codec in _KEEPS_ESCAPES:
        return part.decode(codec, "replace")
    text = part[length:]
    end = next((index for index, byte in enumerate(text) if byte in delimiters), len(text))
    return text[:end].decode(codec, "replace") + _decode_plain(text[end:], initial)


def _encode_plain(value: str, codec: str) -> bytes:
    encoded = value.encode(codec or "ascii")
    if codec == "shift_jis" and len(encoded) > len(value):  # the codec knows more than JIS X 0201, which is meant
        raise UnicodeEncodeError(codec, value, 0, len(value), "not in JIS X 0201")
    return encoded


def _encode_part(part: str, declared: Encodings) -> bytes:
    """A run of text between delimiters in the first of the character sets that has all of it."""
    for number, codec in enumerate(declared):
        with suppress(UnicodeEncodeError):
            encoded = _encode_plain(part, codec)
            if not number or part.isascii():
                return encoded
            if codec in _KEEPS_ESCAPES:
                return encoded[: -len(_ASCII)] + _ROMAJI if declared[0] == "shift_jis" else encoded
            if codec in _designations():
                return _designations()[codec] + encoded
    raise UnicodeEncodeError(declared[-1], part, 0, len(part), "in none of the character sets declared")
