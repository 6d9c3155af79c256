"""One instance as bytes: where its parts are, so that it can be taken apart and put together again."""

from __future__ import annotations

import io
from contextlib import closing
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, BinaryIO, Final, NamedTuple

from leanpacs.dicom import deflate, uids
from leanpacs.dicom.attributes import INDEXED_TAGS
from leanpacs.dicom.datadict import is_known
from leanpacs.dicom.elements import MAX_FRAGMENTS, PIXEL_TAGS, RawElement, tag_text, walk_window
from leanpacs.dicom.headers import TRIAL, Window, is_capital, is_known_vr, readable_elements
from leanpacs.dicom.layout import Layout, PixelSpan, RawValue
from leanpacs.errors import DicomError, NotDicom

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator


class _Encoding(NamedTuple):
    implicit: bool
    little_endian: bool


_EXPLICIT_LE: Final = _Encoding(implicit=False, little_endian=True)
_IMPLICIT_LE: Final = _Encoding(implicit=True, little_endian=True)
_EXPLICIT_BE: Final = _Encoding(implicit=False, little_endian=False)
_UID_OF: Final = {
    _EXPLICIT_LE: uids.EXPLICIT_LE,
    _IMPLICIT_LE: uids.IMPLICIT_LE,
    _EXPLICIT_BE: uids.EXPLICIT_BE,
}
_IMPLIED_VR: Final = {0x7FE00010: "OW", 0x7FE00008: "OF", 0x7FE00009: "OD"}
_LONGEST_VALUE: Final = 1 << 16
_LONGEST_TABLE: Final = 8 * MAX_FRAGMENTS
_TABLE_TAGS: Final = frozenset({0x7FE00001, 0x7FE00002})


def scan(
    reader: BinaryIO,
    *,
    transfer_syntax: str | None = None,
    wanted: Collection[int] = INDEXED_TAGS,
    spool: Callable[[], BinaryIO] | None = None,
    inflate_limit_bytes: int = deflate.DEFAULT_LIMIT,
) -> Layout:
    """Find the parts of an instance, reading headers and the wanted values only.

    Parameters
    ----------
    reader : BinaryIO
        Seekable; a DICOM file (preamble and file meta information may be absent) or a bare data set.
    transfer_syntax : str, optional
        UID in which the data set was negotiated. Otherwise the file meta information tells, or the first
        elements are tried.
    wanted : collection of int
        Tags of the top-level elements to collect; values above 64 KiB are left out (offset tables: 8 MiB).
    spool : callable, optional
        Makes the empty seekable file into which a deflated data set is inflated.
    inflate_limit_bytes : int
        Bytes to which a deflated data set may inflate.

    Returns
    -------
    Layout
        With `problem` set when the data set ends early or does not read to its end.

    Raises
    ------
    NotDicom
        Nothing in it reads as a data set; the text says why.
    InflateError
        A deflated data set inflates beyond the limit.

    References
    ----------
    PS3.10 7.1 (file meta information), PS3.5 7 (data set) and 10 (transfer syntaxes)
    """
    length = reader.seek(0, 2)
    tags = wanted if isinstance(wanted, frozenset | set | dict) else frozenset(wanted)
    window = Window(reader, length)
    preface = _read_preface(window, tags)
    uid = (transfer_syntax or preface.transfer_syntax).strip(" \0")
    if not uids.transfer_syntax(uid).deflated or _readable(window, preface.length, _EXPLICIT_LE) > 1:
        return _scan_data_set(window, preface, uid, tags)
    inflated, problem = deflate.inflate_leniently(reader, preface.length, spool=spool, limit_bytes=inflate_limit_bytes)
    with closing(inflated):
        window = Window(inflated, inflated.seek(0, 2))
        layout = _scan_data_set(window, preface, uid, tags)
    return replace(layout, deflated=True, problem=problem or layout.problem)


def encoding_of(head: bytes, transfer_syntax: str) -> tuple[bool, bool]:
    """Whether VRs are implicit, and whether the order is little endian, in the beginning of a data set, not deflated.

    As :func:`scan` finds it, which reads all of it.
    """
    window = Window(io.BytesIO(head), len(head))
    return _encoding(window, _after_command_set(window, _read_preface(window, ()).length), transfer_syntax)


def _readable(window: Window, offset: int, encoding: _Encoding) -> int:
    implicit, little_endian = encoding
    return readable_elements(window, offset, implicit=implicit, little_endian=little_endian)


class _Preface(NamedTuple):
    """Preamble and file meta information."""

    length: int
    elements: dict[int, RawValue]
    transfer_syntax: str
    prefixed: bool


def _read_preface(window: Window, wanted: Collection[int]) -> _Preface:
    """Read preamble, prefix and group 0002, whose own length is not trusted; each may be absent."""
    block = window.load(0)
    start = 132 if block[128:132] == b"DICM" else 4 if block[:4] == b"DICM" else 0
    end, elements, syntax = start, dict[int, RawValue](), ""
    for element in _leading_group(window, start, b"\x02\x00", implicit=False):
        if element.end > window.stop:
            raise NotDicom(f"the file ends inside its file meta information, at {tag_text(element.tag)}")
        end = element.end
        if (element.tag in wanted or element.tag == 0x00020010) and _is_short(element, window.stop):
            elements[element.tag] = _value(window, element, little_endian=True)
    if 0x00020010 in elements:
        syntax = elements[0x00020010].value.decode("latin-1")
    return _Preface(end, elements, syntax, prefixed=end > 0)


def _leading_group(window: Window, start: int, group: bytes, *, implicit: bool) -> Iterator[RawElement]:
    """Little endian elements as long as they are of one group; what follows may be encoded otherwise."""
    if window.bytes_at(start, 2) == group:
        for element in walk_window(window, start, implicit=implicit, little_endian=True):
            yield element
            if window.bytes_at(element.end, 2) != group:
                return


def _scan_data_set(window: Window, preface: _Preface, uid: str, wanted: Collection[int]) -> Layout:
    start = _after_command_set(window, preface.length)
    encoding = _encoding(window, start, uid)
    found = dict(preface.elements)
    problem: str | None = None
    pixel: PixelSpan | None = None
    read, first = 0, 0
    implicit, little_endian = encoding
    told = PIXEL_TAGS.union(wanted)
    try:
        for element in walk_window(window, start, implicit=implicit, little_endian=little_endian, wanted=told):
            tag = element.tag
            first = first if read else tag
            read += element.end <= window.stop
            if tag in wanted and _is_short(element, window.stop):
                found[tag] = _value(window, element, encoding.little_endian)
            if tag in PIXEL_TAGS:
                if pixel is not None:
                    raise DicomError(f"{tag_text(tag)} stands at byte {element.offset} a second time")
                pixel = _pixel_span(element, window.stop)
    except DicomError as error:
        problem = str(error)
    if not read:
        raise _unreadable(window, preface, problem)
    if not (preface.prefixed or uid) and not ((problem is None or read > 2) and _is_standard(first)):
        raise NotDicom("there is no DICOM prefix, and the first bytes are not those of a data set")
    return Layout(
        preface_length=preface.length,
        length=window.stop,
        transfer_syntax=uid or _UID_OF[encoding],
        implicit_vr=encoding.implicit,
        little_endian=encoding.little_endian,
        pixel=pixel,
        elements=MappingProxyType(found),
        problem=problem or _contradiction(uids.transfer_syntax(uid or _UID_OF[encoding]), pixel),
    )


def _after_command_set(window: Window, start: int) -> int:
    """First byte after the elements of a DIMSE command (PS3.7 6.3), if there are any."""
    end = start
    if window.bytes_at(start, 8).strip(b"\0"):
        implicit = not is_known_vr(window.bytes_at(start + 4, 2))
        for element in _leading_group(window, start, b"\0\0", implicit=implicit):
            if element.end <= window.stop:
                end = element.end
    return end


def _encoding(window: Window, start: int, uid: str) -> _Encoding:
    """The encoding in which the data set reads: the declared one unless another one fits better."""
    encodings = [_EXPLICIT_LE, _IMPLICIT_LE, _EXPLICIT_BE]
    code = window.bytes_at(start + 4, 2)
    if uid:
        syntax = uids.transfer_syntax(uid)
        declared = _Encoding(not syntax.explicit_vr, syntax.little_endian)
    else:
        # Data sets begin with a low group: a high one is a low one in the other byte order.
        first = window.bytes_at(start, 2)
        declared = _EXPLICIT_BE if first[:1] < first[1:] else _EXPLICIT_LE
    encodings.sort(key=lambda encoding: encoding != declared)
    if _readable(window, start, encodings[0]) == TRIAL:
        return encodings[0]
    readable = {encoding: _readable(window, start, encoding) for encoding in encodings}
    best = max(encodings, key=readable.__getitem__)
    if readable[best]:
        return best
    # Nothing reads well: believe the VR that is there, and the declared byte order.
    if is_known_vr(code) or (uid and not declared.implicit and is_capital(code)):
        return _Encoding(implicit=False, little_endian=declared.little_endian)
    return _IMPLICIT_LE


def _is_short(element: RawElement, stop: int) -> bool:
    """Whether a value is there in full and may be loaded."""
    limit = _LONGEST_TABLE if element.tag in _TABLE_TAGS else _LONGEST_VALUE
    return element.length is not None and element.length <= limit and element.end <= stop


def _value(window: Window, element: RawElement, little_endian: bool) -> RawValue:
    return RawValue(element.vr, window.bytes_at(element.value_offset, element.length or 0), little_endian)


def _pixel_span(element: RawElement, stop: int) -> PixelSpan:
    return PixelSpan(
        tag=element.tag,
        vr=element.vr or _IMPLIED_VR[element.tag],
        header_offset=element.offset,
        value_offset=element.value_offset,
        value_end=min(element.end, stop),
        encapsulated=element.length is None,
    )


def _unreadable(window: Window, preface: _Preface, problem: str | None) -> NotDicom:
    if not window.stop:
        return NotDicom("it is empty")
    if not preface.prefixed:
        return NotDicom("there is no DICOM prefix, and the first bytes are not those of a data set")
    if window.stop == preface.length:
        return NotDicom("no data set follows the file meta information")
    return NotDicom(f"what follows the file meta information is no data set: {problem or 'only zeros'}")


def _is_standard(tag: int) -> bool:
    """Whether data sets may begin with a tag: one of the data dictionary, or a group length (PS3.5 7.2)."""
    return is_known(tag) or (tag & 0xFFFF == 0 and not tag >> 16 & 1)


def _contradiction(syntax: uids.TransferSyntax, pixel: PixelSpan | None) -> str | None:
    """Why Pixel Data cannot be what its transfer syntax says; an unknown transfer syntax says nothing."""
    if pixel is None or not syntax.known or not pixel.length:
        return None
    if pixel.encapsulated and not syntax.encapsulated:
        return f"Pixel Data is encapsulated, which {syntax.name} does not allow"
    if syntax.encapsulated and not pixel.encapsulated and pixel.tag == 0x7FE00010:
        return f"Pixel Data is not encapsulated, as {syntax.name} asks"
    return None
