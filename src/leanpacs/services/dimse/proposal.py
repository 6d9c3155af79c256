"""Association requests and acceptances as they are on the wire (PS3.8 9.3.2 and 9.3.3, PS3.7 annex D.3.3).

They are short and of one simple shape: items of a type, a length and a value, some of which are items again. A program
that retrieves a study proposes more than a hundred presentation contexts, once for each study.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final

from leanpacs import __version__
from leanpacs.dicom.write import IMPLEMENTATION_CLASS_UID
from leanpacs.services.dimse.transport import AbortReason, PduType, Violation

APPLICATION_CONTEXT: Final = "1.2.840.10008.3.1.1.1"
TITLE_BYTES: Final = 16
"""Of an AE title, padded with spaces."""

_PDU: Final = struct.Struct(">BxL")
_FIXED: Final = struct.Struct(">Hxx16s16s32x")
_ITEM: Final = struct.Struct(">BxH")
_CONTEXT: Final = struct.Struct("BxBx")
_SHORT: Final = struct.Struct(">H")
_LONG: Final = struct.Struct(">L")
_PROTOCOL_VERSION: Final = 1

Roles = Mapping[str, tuple[bool, bool]]
"""Whether the requestor is SCU, and SCP, by SOP Class UID."""


class ItemType(IntEnum):
    """Types of items and sub-items (PS3.8 9.3.2, PS3.7 annex D.3.3)."""

    APPLICATION_CONTEXT = 0x10
    CONTEXT_PROPOSED = 0x20
    CONTEXT_ANSWERED = 0x21
    ABSTRACT_SYNTAX = 0x30
    TRANSFER_SYNTAX = 0x40
    USER_INFORMATION = 0x50
    MAXIMUM_LENGTH = 0x51
    IMPLEMENTATION_CLASS = 0x52
    ROLE = 0x54
    IMPLEMENTATION_VERSION = 0x55
    EXTENDED = 0x56


@dataclass(frozen=True, slots=True)
class Request:
    """An association request.

    Parameters
    ----------
    called, calling : str
        AE titles without padding.
    max_pdu_bytes : int
        Largest PDU the peer takes; 0 is any.
    offers : sequence of (context ID, abstract syntax, transfer syntaxes)
        Proposed presentation contexts.
    extended : mapping of str to bytes
        Service class application information of SOP class extended negotiation, by SOP Class UID.
    roles : Roles
        What it proposes to be; SCU only where it says nothing.
    """

    called: str
    calling: str
    application_context: str
    protocol_version: int
    max_pdu_bytes: int
    offers: Sequence[tuple[int, str, Sequence[str]]]
    extended: Mapping[str, bytes] = field(default_factory=dict)
    roles: Roles = field(default_factory=dict)

    def pdu(self) -> bytes:
        """The A-ASSOCIATE-RQ PDU."""
        contexts = (
            _item(
                ItemType.CONTEXT_PROPOSED,
                _CONTEXT.pack(context_id, 0)
                + _uid(ItemType.ABSTRACT_SYNTAX, abstract_syntax)
                + b"".join(_uid(ItemType.TRANSFER_SYNTAX, uid) for uid in offered),
            )
            for context_id, abstract_syntax, offered in self.offers
        )
        user = _user_information(self.max_pdu_bytes, self.roles, self.extended)
        return _associate_pdu(PduType.ASSOCIATE_RQ, self.called, self.calling, [*contexts, user])


@dataclass(frozen=True, slots=True)
class Acceptance:
    """An accepted association.

    Parameters
    ----------
    max_pdu_bytes : int
        Largest PDU that who accepts takes; 0 is any.
    contexts : sequence of (context ID, result, transfer syntax)
        The answer to each proposed presentation context; result 0 is accepted.
    extended, roles
        As in `Request`: what is agreed to.
    """

    max_pdu_bytes: int
    contexts: Sequence[tuple[int, int, str]]
    extended: Mapping[str, bytes] = field(default_factory=dict)
    roles: Roles = field(default_factory=dict)

    def pdu(self, called: str, calling: str) -> bytes:
        """The A-ASSOCIATE-AC PDU; the AE titles are those of the request."""
        contexts = (
            _item(ItemType.CONTEXT_ANSWERED, _CONTEXT.pack(context_id, result) + _uid(ItemType.TRANSFER_SYNTAX, uid))
            for context_id, result, uid in self.contexts
        )
        user = _user_information(self.max_pdu_bytes, self.roles, self.extended)
        return _associate_pdu(PduType.ASSOCIATE_AC, called, calling, [*contexts, user])


def read_request(content: bytes) -> Request:
    """Read an A-ASSOCIATE-RQ PDU, given without the six bytes of header.

    Raises
    ------
    Violation
        It is malformed.
    """
    try:
        version, called, calling = _FIXED.unpack_from(content)
        offers, application, user = [], "", _User()
        for kind, value in _items(content, _FIXED.size):
            match kind:
                case ItemType.CONTEXT_PROPOSED:
                    offers.append(_offer(value))
                case ItemType.APPLICATION_CONTEXT:
                    application = _text(value)
                case ItemType.USER_INFORMATION:
                    user = _read_user_information(value)
                case _:
                    raise ValueError(f"item type {kind:#04x}")
        return Request(
            _title(called), _title(calling), application, version, user.max_pdu_bytes, offers, user.extended, user.roles
        )
    except (ValueError, struct.error) as error:
        raise Violation(AbortReason.INVALID_PARAMETER, f"malformed association request: {error}") from error


def read_acceptance(content: bytes) -> Acceptance:
    """Read an A-ASSOCIATE-AC PDU, given without the six bytes of header.

    Raises
    ------
    Violation
        It is malformed.
    """
    try:
        contexts, user = [], _User()
        for kind, value in _items(content, _FIXED.size):
            if kind == ItemType.CONTEXT_ANSWERED:
                contexts.append(_answer(value))
            elif kind == ItemType.USER_INFORMATION:
                user = _read_user_information(value)
        return Acceptance(user.max_pdu_bytes, contexts, user.extended, user.roles)
    except (ValueError, struct.error) as error:
        raise Violation(AbortReason.INVALID_PARAMETER, f"malformed answer: {error}") from error


@dataclass(slots=True)
class _User:
    """What is known from user information."""

    max_pdu_bytes: int = 0
    extended: dict[str, bytes] = field(default_factory=dict)
    roles: dict[str, tuple[bool, bool]] = field(default_factory=dict)


def _read_user_information(content: bytes) -> _User:
    """What is not known in it is passed over (PS3.7 annex D.3.3)."""
    user = _User()
    for kind, value in _items(content, 0):
        match kind:
            case ItemType.MAXIMUM_LENGTH:
                (user.max_pdu_bytes,) = _LONG.unpack(value)
            case ItemType.ROLE:
                sop_class, (scu, scp) = _named(value)
                user.roles[sop_class] = bool(scu), bool(scp)
            case ItemType.EXTENDED:
                sop_class, asked = _named(value)
                user.extended[sop_class] = asked
    return user


def _user_information(max_pdu_bytes: int, roles: Roles, extended: Mapping[str, bytes]) -> bytes:
    """Maximum length and implementation (PS3.8 annex D.1, PS3.7 annex D.3.3.2), and what is agreed on SOP classes."""
    return _item(
        ItemType.USER_INFORMATION,
        b"".join(
            (
                _item(ItemType.MAXIMUM_LENGTH, _LONG.pack(max_pdu_bytes)),
                _uid(ItemType.IMPLEMENTATION_CLASS, IMPLEMENTATION_CLASS_UID),
                *(_item(ItemType.ROLE, _with_uid(uid, bytes(both))) for uid, both in roles.items()),
                _item(ItemType.IMPLEMENTATION_VERSION, f"LEANPACS_{__version__}".encode()[:16]),
                *(_item(ItemType.EXTENDED, _with_uid(uid, asked)) for uid, asked in extended.items()),
            )
        ),
    )


def _offer(content: bytes) -> tuple[int, str, Sequence[str]]:
    context_id, _ = _CONTEXT.unpack_from(content)
    if not context_id % 2:
        raise ValueError(f"presentation context ID {context_id}")
    abstract_syntax, offered = "", []
    for kind, value in _items(content, _CONTEXT.size):
        if kind == ItemType.ABSTRACT_SYNTAX:
            abstract_syntax = _text(value)
        elif kind == ItemType.TRANSFER_SYNTAX and (uid := _text(value)):
            offered.append(uid)
    return context_id, abstract_syntax, offered


def _answer(content: bytes) -> tuple[int, int, str]:
    context_id, result = _CONTEXT.unpack_from(content)
    named = [_text(value) for kind, value in _items(content, _CONTEXT.size) if kind == ItemType.TRANSFER_SYNTAX]
    return context_id, result, named[0] if named else ""


def _items(content: bytes, start: int) -> Iterator[tuple[int, bytes]]:
    """Type and value of each item; raises `ValueError` where one ends beyond the content."""
    while start < len(content):
        kind, length = _ITEM.unpack_from(content, start)
        start += _ITEM.size
        if start + length > len(content):
            raise ValueError(f"an item of type {kind:#04x} ends beyond what it is in")
        yield kind, content[start : start + length]
        start += length


def _named(content: bytes) -> tuple[str, bytes]:
    """A SOP Class UID, and what follows it."""
    (length,) = _SHORT.unpack_from(content)
    start = _SHORT.size + length
    if start > len(content):
        raise ValueError("a SOP Class UID ends beyond its item")
    return _text(content[_SHORT.size : start]), content[start:]


def _title(padded: bytes) -> str:
    """An AE title without padding; raises `ValueError` for what is none (PS3.5 table 6.2-1)."""
    title = padded.decode("ascii").strip(" \0")
    if not title or not title.isprintable() or "\\" in title:
        raise ValueError(f"{title!r} is no AE title")
    return title


def _text(value: bytes) -> str:
    """A UID; some pad it, which PS3.8 annex F does not allow."""
    return value.decode("ascii").strip(" \0")


def _associate_pdu(kind: PduType, called: str, calling: str, items: Iterable[bytes]) -> bytes:
    titles = [title.encode("ascii", "replace").ljust(TITLE_BYTES)[:TITLE_BYTES] for title in (called, calling)]
    application = _uid(ItemType.APPLICATION_CONTEXT, APPLICATION_CONTEXT)
    content = b"".join((_FIXED.pack(_PROTOCOL_VERSION, *titles), application, *items))
    return _PDU.pack(kind, len(content)) + content


def _uid(kind: ItemType, uid: str) -> bytes:
    return _item(kind, uid.encode("ascii"))


def _with_uid(uid: str, rest: bytes) -> bytes:
    encoded = uid.encode("ascii")
    return _SHORT.pack(len(encoded)) + encoded + rest


def _item(kind: ItemType, value: bytes) -> bytes:
    return _ITEM.pack(kind, len(value)) + value
