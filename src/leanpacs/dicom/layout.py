"""Where the parts of one instance are in its bytes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping


class RawValue(NamedTuple):
    """The encoded value of one element, as it stands in the data set (padding included); a tuple, for there are many.

    Parameters
    ----------
    vr : str or None
        The VR as encoded; None in an implicit VR encoding.
    value : bytes
        The encoded value.
    little_endian : bool
        Byte order of ``value`` when it holds numbers.
    """

    vr: str | None
    value: bytes
    little_endian: bool = True


@dataclass(frozen=True, slots=True)
class PixelSpan:
    """Where the top-level Pixel Data (also Float and Double Float Pixel Data) is.

    ``[header_offset, value_offset)`` is the element's header, ``[value_offset, value_end)`` its value. When
    `encapsulated`, the value includes all item headers and the Sequence Delimitation Item.
    """

    tag: int
    vr: str
    header_offset: int
    value_offset: int
    value_end: int
    encapsulated: bool

    @property
    def length(self) -> int:
        """Length of the value in bytes, as it is there."""
        return self.value_end - self.value_offset


@dataclass(frozen=True, slots=True)
class Layout:
    """Where everything is in the bytes of one instance; offsets from the first byte.

    :func:`leanpacs.dicom.instance.scan` finds it.

    head = ``[preface_length, pixel.value_offset)``, value = ``[pixel.value_offset, pixel.value_end)``,
    tail = ``[pixel.value_end, length)``; without Pixel Data all is head.

    Parameters
    ----------
    preface_length : int
        Preamble and file meta information, 0 if there is none.
    length : int
        All bytes, preface included.
    transfer_syntax : str
        UID as given, else as in the file meta information, else guessed.
    implicit_vr, little_endian : bool
        The encoding in which the data set really reads.
    pixel : PixelSpan or None
        Top-level Pixel Data.
    elements : mapping of int to RawValue
        The wanted top-level elements that are there, those of group 0002 included.
    problem : str or None
        Why a readable data set is damaged, for people; such an instance is to be kept whole.
    deflated : bool
        The bytes given held a deflated data set: offsets and lengths are those in the preface followed by the
        inflated data set, as :func:`~leanpacs.dicom.deflate.inflate` gives them.
    """

    preface_length: int
    length: int
    transfer_syntax: str
    implicit_vr: bool
    little_endian: bool
    pixel: PixelSpan | None
    elements: Mapping[int, RawValue]
    problem: str | None = None
    deflated: bool = False

    @property
    def head_end(self) -> int:
        """Where the head ends: at the value of Pixel Data, or at the end of all."""
        return self.length if self.pixel is None else self.pixel.value_offset

    @property
    def tail_start(self) -> int:
        """Where the tail begins: after the value of Pixel Data, or at the end of all."""
        return self.length if self.pixel is None else self.pixel.value_end
