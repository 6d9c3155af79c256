"""Values of elements as the DICOM JSON Model writes them.

References
----------
PS3.18 F.2.3 (value representations), F.2.4 (multiple values), F.2.5 (empty values), F.2.7 (inline binary).
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Callable, Sequence
from types import MappingProxyType
from typing import Final, TypeAlias

from leanpacs.dicom import text
from leanpacs.dicom.vrs import NUMBER_CODES

JSONValue: TypeAlias = "str | int | float | dict[str, str] | None"
"""One value in a ``Value`` array; None stands for an empty one."""

_CHARACTER_SET_VRS: Final = frozenset({"LO", "LT", "PN", "SH", "ST", "UC", "UT"})
_SINGLE_TEXT_VRS: Final = frozenset({"LT", "ST", "UR", "UT"})
_NAME_GROUPS: Final = ("Alphabetic", "Ideographic", "Phonetic")
_INTEGER: Final = re.compile(r"[+-]?[0-9]+")
_DECIMAL: Final = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_EXACT_IN_DOUBLE: Final = 2**53
_PADDING: Final = " \0"


def json_values(vr: str, value: bytes, *, little_endian: bool, declared: text.Encodings) -> list[JSONValue]:
    """Decode an encoded value into what stands in a ``Value`` array; an empty list for an empty value.

    Parameters
    ----------
    vr : str
        Any VR but SQ and those of `leanpacs.dicom.vrs.BINARY_VRS`.
    value : bytes
        The encoded value with its padding.
    little_endian : bool
        Byte order of numbers.
    declared : tuple of str
        Character sets, from `leanpacs.dicom.text.encodings`.

    Raises
    ------
    ValueError
        The value is none of this VR: not a number, or a length that holds no whole number of values.
    """
    if vr in NUMBER_CODES:
        return _numbers(vr, value, little_endian)
    if vr == "AT":
        return _tags(value, little_endian)
    return json_text_values(vr, _decode(vr, value, declared))


def json_text_values(vr: str, decoded: str) -> list[JSONValue]:
    """The same for a value that is text already, several values being separated by backslashes.

    Raises
    ------
    ValueError
        A DS or IS that is no number.
    """
    stripped = decoded.rstrip(_PADDING)
    if not stripped:
        return []
    if vr in _SINGLE_TEXT_VRS:
        return [stripped]
    convert = _CONVERTERS.get(vr, _text)
    return [convert(part.rstrip(_PADDING)) for part in stripped.split("\\")]


def _decode(vr: str, value: bytes, declared: text.Encodings) -> str:
    if vr not in _CHARACTER_SET_VRS:
        return text.decode_ascii(value)
    delimiters = text.NAME_DELIMITERS if vr == "PN" else text.VALUE_DELIMITERS
    return text.decode(value, declared, delimiters=delimiters)


def _numbers(vr: str, value: bytes, little_endian: bool) -> list[JSONValue]:
    code = NUMBER_CODES[vr]
    count, rest = divmod(len(value), struct.calcsize(code))
    if rest:
        raise ValueError(f"{len(value)} bytes are no whole number of {vr} values")
    numbers = struct.unpack(f"{'<' if little_endian else '>'}{count}{code}", value)
    if vr in ("FD", "FL"):
        return [_finite_or_name(number) for number in numbers]
    if vr in ("SV", "UV"):
        return [number if abs(number) < _EXACT_IN_DOUBLE else str(number) for number in numbers]
    return list(numbers)


def _finite_or_name(number: float) -> float | str:
    """JSON has no numbers for these; the names are those that Python and other readers of DICOM JSON take."""
    if math.isfinite(number):
        return number
    return "NaN" if math.isnan(number) else "inf" if number > 0 else "-inf"


def _tags(value: bytes, little_endian: bool) -> list[JSONValue]:
    if len(value) % 4:
        raise ValueError(f"{len(value)} bytes are no whole number of AT values")
    numbers = struct.unpack(f"{'<' if little_endian else '>'}{len(value) // 2}H", value)
    return [f"{group:04X}{number:04X}" for group, number in zip(numbers[::2], numbers[1::2], strict=True)]


def _text(part: str) -> JSONValue:
    return part or None


def _integer_string(part: str) -> JSONValue:
    number = _decimal_string(part)
    return int(number) if isinstance(number, float) and number.is_integer() else number


def _decimal_string(part: str) -> JSONValue:
    part = part.strip(_PADDING)
    if not part:
        return None
    if _INTEGER.fullmatch(part) and len(part) <= 16:
        return int(part)
    number = float(part) if _DECIMAL.fullmatch(part) else math.nan
    if not math.isfinite(number):
        raise ValueError("no number")
    return number


def _person_name(part: str) -> JSONValue:
    groups = {
        name: group.strip(_PADDING)
        for name, group in zip(_NAME_GROUPS, part.split("="), strict=False)
        if group.strip(_PADDING)
    }
    return groups or None


_CONVERTERS: Final[MappingProxyType[str, Callable[[str], JSONValue]]] = MappingProxyType(
    {"IS": _integer_string, "DS": _decimal_string, "PN": _person_name}
)


def attribute_json(vr: str, value: str | float | Sequence[str] | None) -> dict[str, object]:
    """Attribute object for a value that is not encoded, such as a field of `InstanceIndex` or a computed one.

    Parameters
    ----------
    vr : str
        Any VR but SQ, AT and the binary ones.
    value : str, int, float, sequence of str or None
        Several values in a str are separated by backslashes; '' and None mean empty.
    """
    if value is None or isinstance(value, int | float):
        values: list[JSONValue] = [] if value is None else [value]
    else:
        try:
            values = json_text_values(vr, value if isinstance(value, str) else "\\".join(value))
        except ValueError:
            values = []
    return {"vr": vr, "Value": values} if values else {"vr": vr}
