"""Data sets encoded by hand, so that tests know where every byte is, and Hypothesis strategies that draw them."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

from hypothesis import strategies as st

IMPLICIT_LE = "1.2.840.10008.1.2"
EXPLICIT_LE = "1.2.840.10008.1.2.1"
EXPLICIT_BE = "1.2.840.10008.1.2.2"
RLE = "1.2.840.10008.1.2.5"
JPEG = "1.2.840.10008.1.2.4.50"
UNDEFINED = 0xFFFFFFFF
PREAMBLE = bytes(128) + b"DICM"

LONG_VRS = {"OB", "OD", "OF", "OL", "OV", "OW", "SQ", "SV", "UC", "UN", "UR", "UT", "UV", "QQ"}


@dataclass(frozen=True)
class Encoding:
    """How a data set is encoded."""

    implicit: bool = False
    little: bool = True

    @property
    def uid(self) -> str:
        return EXPLICIT_BE if not self.little else IMPLICIT_LE if self.implicit else EXPLICIT_LE

    def pack(self, codes: str, *values: int | bytes) -> bytes:
        return struct.pack(("<" if self.little else ">") + codes, *values)

    def header(self, tag: int, vr: str, length: int) -> bytes:
        group, number = tag >> 16, tag & 0xFFFF
        if self.implicit or group == 0xFFFE:
            return self.pack("HHL", group, number, length)
        if vr in LONG_VRS:
            return self.pack("HH2sHL", group, number, vr.encode(), 0, length)
        return self.pack("HH2sH", group, number, vr.encode(), length)

    def element(self, tag: int, vr: str, value: bytes = b"", length: int | None = None) -> bytes:
        return self.header(tag, vr, len(value) if length is None else length) + value

    def delimiter(self, tag: int) -> bytes:
        return self.header(tag, "", 0)

    def item(self, content: bytes, *, undefined: bool = False) -> bytes:
        if undefined:
            return self.header(0xFFFEE000, "", UNDEFINED) + content + self.delimiter(0xFFFEE00D)
        return self.header(0xFFFEE000, "", len(content)) + content

    def sequence(self, tag: int, items: list[bytes], *, undefined: bool = False, vr: str = "SQ") -> bytes:
        content = b"".join(items)
        if undefined:
            return self.header(tag, vr, UNDEFINED) + content + self.delimiter(0xFFFEE0DD)
        return self.element(tag, vr, content)

    def fragments(self, parts: list[bytes], table: bytes = b"") -> bytes:
        """Value of encapsulated Pixel Data, which is little endian whatever surrounds it."""
        items = b"".join(self.item(part) for part in [table, *parts])
        return items + self.delimiter(0xFFFEE0DD)

    def encapsulated(self, tag: int, parts: list[bytes], table: bytes = b"") -> bytes:
        return self.header(tag, "OB", UNDEFINED) + self.fragments(parts, table)


EXPLICIT = Encoding()
IMPLICIT = Encoding(implicit=True)
BIG = Encoding(little=False)


def file_meta(uid: str | None, *, group_length: bool = True) -> bytes:
    """File meta information, always explicit VR little endian."""
    body = EXPLICIT.element(0x00020002, "UI", b"1.2.840.10008.5.1.4.1.1.7\0")
    if uid is not None:
        body += EXPLICIT.element(0x00020010, "UI", uid.encode() + b"\0" * (len(uid) % 2))
    if not group_length:
        return body
    return EXPLICIT.element(0x00020000, "UL", struct.pack("<L", len(body))) + body


@dataclass
class Drawn:
    """A drawn instance and what is known of it."""

    encoding: Encoding
    preface: bytes
    uid: str
    parts: list[tuple[int, bytes, bytes]] = field(default_factory=list)  # tag, header, rest
    padding: bytes = b""

    @property
    def data(self) -> bytes:
        return self.preface + b"".join(header + rest for _, header, rest in self.parts) + self.padding

    def ends(self) -> list[tuple[int, int, int]]:
        """Tag, first byte and end of every top-level element."""
        found, offset = [], len(self.preface)
        for tag, header, rest in self.parts:
            found.append((tag, offset, offset + len(header) + len(rest)))
            offset = found[-1][2]
        return found


encodings = st.sampled_from([EXPLICIT, IMPLICIT, BIG])
_values = st.binary(max_size=40)


@st.composite
def _nested(draw: st.DrawFn, encoding: Encoding, depth: int) -> bytes:
    """The elements of an item."""
    content = encoding.element(0x00080100, "SH", draw(_values))
    if draw(st.booleans()):
        content += encoding.encapsulated(0x7FE00010, draw(st.lists(_values, max_size=3)))  # an icon's
    elif draw(st.booleans()):
        content += encoding.element(0x7FE00010, "OW", draw(_values))
    if depth and draw(st.booleans()):
        content = (
            encoding.sequence(
                0x00080051,
                draw(st.lists(_nested(encoding, depth - 1).map(encoding.item), max_size=2)),
                undefined=draw(st.booleans()),
            )
            + content
        )
    return content


@st.composite
def _sequence(draw: st.DrawFn, encoding: Encoding, tag: int) -> tuple[bytes, bytes]:
    """Header and rest of a sequence, sometimes written as UN, whose items are implicit VR little endian."""
    vr = draw(st.sampled_from(["SQ", "SQ", "UN"]))
    inner = IMPLICIT if vr == "UN" and not encoding.implicit else encoding
    undefined = draw(st.booleans())
    contents = draw(st.lists(_nested(inner, 2), max_size=3))
    items = b"".join(inner.item(content, undefined=draw(st.booleans())) for content in contents)
    rest = items + (inner.delimiter(0xFFFEE0DD) if undefined else b"")
    return encoding.header(tag, vr, UNDEFINED if undefined else len(items)), rest


_PLAIN = {
    0x00080005: "CS",
    0x00080016: "UI",
    0x00080018: "UI",
    0x00080020: "DA",
    0x00080060: "CS",
    0x00081030: "LO",
    0x00090010: "LO",
    0x00091001: "ZZ",
    0x00091002: "QQ",
    0x00091003: "UN",
    0x00091004: "OB",
    0x00100000: "UL",
    0x00100010: "PN",
    0x00100020: "LO",
    0x0020000D: "UI",
    0x00200013: "IS",
    0x00280010: "US",
    0x00281101: "UT",
    0x00420011: "OB",
    0x50000010: "US",
}
_SEQUENCES = [0x00081140, 0x00091010, 0x00400275, 0x00880200]


@st.composite
def instances(
    draw: st.DrawFn,
    *,
    file: bool | None = None,
    own_vrs: bool = True,
    among: tuple[Encoding, ...] = (EXPLICIT, IMPLICIT, BIG),
    kinds: tuple[str, ...] = ("none", "native", "encapsulated", "float"),
) -> Drawn:
    """Instances in every form: with and without preface, Pixel Data, sequences, padding.

    ``own_vrs``: some elements have VRs that no reader knows, whose length can only be guessed.
    """
    encoding = draw(st.sampled_from(among))
    kind = draw(st.sampled_from(kinds))
    if kind == "encapsulated":
        encoding = EXPLICIT
    uid = JPEG if kind == "encapsulated" else encoding.uid
    preface = b""
    if draw(st.booleans()) if file is None else file:
        preface = draw(st.sampled_from([PREAMBLE, b""])) + file_meta(uid, group_length=draw(st.booleans()))
    drawn = Drawn(encoding, preface, uid)
    tags = {0x00080016} | draw(st.sets(st.sampled_from([*_PLAIN, *_SEQUENCES])))
    for tag in sorted(tags):
        if not own_vrs and _PLAIN.get(tag) in {"ZZ", "QQ"}:
            continue
        if tag in _SEQUENCES:
            drawn.parts.append((tag, *draw(_sequence(encoding, tag))))
        else:
            value = draw(st.binary(min_size=1, max_size=40))
            drawn.parts.append((tag, encoding.header(tag, _PLAIN[tag], len(value)), value))
    if kind == "encapsulated":
        value = encoding.fragments(draw(st.lists(_values, max_size=4)))
        drawn.parts.append((0x7FE00010, encoding.header(0x7FE00010, "OB", UNDEFINED), value))
    elif kind != "none":
        tag, vr = (0x7FE00010, draw(st.sampled_from(["OB", "OW"]))) if kind == "native" else (0x7FE00008, "OF")
        value = draw(st.binary(max_size=200))
        drawn.parts.append((tag, encoding.header(tag, vr, len(value)), value))
    if draw(st.booleans()):
        value = draw(_values)
        drawn.parts.append((0xFFFCFFFC, encoding.header(0xFFFCFFFC, "OB", len(value)), value))
    drawn.padding = bytes(draw(st.sampled_from([0, 0, 1, 7, 8, 100])))
    return drawn
