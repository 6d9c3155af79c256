"""Command sets of DIMSE messages (PS3.7 section 6.3 and annex E).

They are short, of fixed encoding (Implicit VR Little Endian) and travel with every instance, so they are
read and written here directly.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum

NO_DATA_SET = 0x0101
SOME_DATA_SET = 0x0000
LONGEST_COMMAND_BYTES = 1 << 16

_ELEMENT = struct.Struct("<HHL")
_RESPONSE = 0x8000


class CommandField(IntEnum):
    """Command Field of requests (PS3.7 table E.1-1)."""

    C_STORE_RQ = 0x0001
    C_GET_RQ = 0x0010
    C_FIND_RQ = 0x0020
    C_MOVE_RQ = 0x0021
    C_ECHO_RQ = 0x0030
    N_EVENT_REPORT_RQ = 0x0100
    N_ACTION_RQ = 0x0130
    C_CANCEL_RQ = 0x0FFF


class Element(IntEnum):
    """Element numbers of group 0000 (PS3.7 table E.1-1)."""

    GROUP_LENGTH = 0x0000
    AFFECTED_SOP_CLASS_UID = 0x0002
    REQUESTED_SOP_CLASS_UID = 0x0003
    COMMAND_FIELD = 0x0100
    MESSAGE_ID = 0x0110
    MESSAGE_ID_BEING_RESPONDED_TO = 0x0120
    MOVE_DESTINATION = 0x0600
    PRIORITY = 0x0700
    COMMAND_DATA_SET_TYPE = 0x0800
    STATUS = 0x0900
    ERROR_COMMENT = 0x0902
    AFFECTED_SOP_INSTANCE_UID = 0x1000
    REQUESTED_SOP_INSTANCE_UID = 0x1001
    EVENT_TYPE_ID = 0x1002
    ACTION_TYPE_ID = 0x1008
    NUMBER_OF_REMAINING_SUBOPERATIONS = 0x1020
    NUMBER_OF_COMPLETED_SUBOPERATIONS = 0x1021
    NUMBER_OF_FAILED_SUBOPERATIONS = 0x1022
    NUMBER_OF_WARNING_SUBOPERATIONS = 0x1023
    MOVE_ORIGINATOR_AE_TITLE = 0x1030
    MOVE_ORIGINATOR_MESSAGE_ID = 0x1031


@dataclass(frozen=True, slots=True)
class Command:
    """A received command set.

    Parameters
    ----------
    context_id : int
        Presentation context it came on.
    elements : mapping of int to bytes
        Encoded values of group 0000 by element number.
    """

    context_id: int
    elements: Mapping[int, bytes]

    @property
    def field(self) -> int:
        """Command Field: which request or response it is."""
        return self.number(Element.COMMAND_FIELD, 0)

    @property
    def is_response(self) -> bool:
        """Whether it answers a request of ours."""
        return self.field & _RESPONSE != 0

    @property
    def message_id(self) -> int:
        """Message ID."""
        return self.number(Element.MESSAGE_ID, 0)

    @property
    def sop_class(self) -> str:
        """Affected SOP Class UID, or the requested one where the command has that."""
        return self.text(Element.AFFECTED_SOP_CLASS_UID) or self.text(Element.REQUESTED_SOP_CLASS_UID)

    @property
    def sop_uid(self) -> str:
        """Affected SOP Instance UID, or the requested one where the command has that."""
        return self.text(Element.AFFECTED_SOP_INSTANCE_UID) or self.text(Element.REQUESTED_SOP_INSTANCE_UID)

    @property
    def has_data_set(self) -> bool:
        """Whether a data set follows."""
        return self.number(Element.COMMAND_DATA_SET_TYPE, NO_DATA_SET) != NO_DATA_SET

    def text(self, element: int) -> str:
        """Value of an element of text, without its padding; ``''`` when it is missing."""
        return self.elements.get(element, b"").decode("ascii", "replace").strip("\0 ")

    def number(self, element: int, default: int) -> int:
        """Value of an element of VR US."""
        value = self.elements.get(element, b"")
        return int.from_bytes(value[:2], "little") if len(value) >= 2 else default


_SPACE_PADDED = frozenset({Element.ERROR_COMMENT, Element.MOVE_DESTINATION, Element.MOVE_ORIGINATOR_AE_TITLE})


def decode(encoded: bytes, context_id: int) -> Command:
    """Read a command set.

    Raises
    ------
    ValueError
        It ends inside an element, has elements of another group, or no Command Field.
    """
    elements: dict[int, bytes] = {}
    offset = 0
    while offset < len(encoded):
        if offset + _ELEMENT.size > len(encoded):
            raise ValueError("a command set ends inside an element")
        group, number, length = _ELEMENT.unpack_from(encoded, offset)
        offset += _ELEMENT.size
        if group or offset + length > len(encoded):
            raise ValueError(f"element ({group:04x},{number:04x}) does not belong in a command set")
        elements[number] = encoded[offset : offset + length]
        offset += length
    if len(elements.get(Element.COMMAND_FIELD, b"")) != 2:
        raise ValueError("a command set has no Command Field")
    return Command(context_id, elements)


def encode(elements: Mapping[int, int | str]) -> bytes:
    """Write a command set; numbers become US (65535 at most), text becomes UI, AE or LO. The group length is added."""
    body = b"".join(_encoded(number, elements[number]) for number in sorted(elements))
    return _ELEMENT.pack(0, Element.GROUP_LENGTH, 4) + len(body).to_bytes(4, "little") + body


def response(
    command: Command,
    status: int,
    comment: str = "",
    *,
    with_data_set: bool = False,
    more: Mapping[int, int | str] | None = None,
) -> bytes:
    """Encode the response to ``command``, with ``more`` elements of its own (PS3.7 section 9.3)."""
    elements: dict[int, int | str] = {
        Element.COMMAND_FIELD: command.field | _RESPONSE,
        Element.MESSAGE_ID_BEING_RESPONDED_TO: command.message_id,
        Element.COMMAND_DATA_SET_TYPE: SOME_DATA_SET if with_data_set else NO_DATA_SET,
        Element.STATUS: status,
        **(more or {}),
    }
    if command.sop_class:
        elements[Element.AFFECTED_SOP_CLASS_UID] = command.sop_class
    if command.sop_uid:
        elements[Element.AFFECTED_SOP_INSTANCE_UID] = command.sop_uid
    if comment:
        elements[Element.ERROR_COMMENT] = comment
    return encode(elements)


def _encoded(number: int, value: int | str) -> bytes:
    if isinstance(value, int):
        return _ELEMENT.pack(0, number, 2) + min(value, 0xFFFF).to_bytes(2, "little")
    text = value.encode("ascii", "replace")
    if len(text) % 2:
        text += b" " if number in _SPACE_PADDED else b"\0"
    return _ELEMENT.pack(0, number, len(text)) + text
