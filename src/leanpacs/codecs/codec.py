"""What a codec is: the samples of one frame to one code stream and back, exactly, or a refusal before encoding."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from numpy.typing import NDArray

from leanpacs.dicom.frames import FrameSpec
from leanpacs.errors import DecodeError, EncodeError, LeanPACSError

Samples = NDArray[Any]
"""Stored values of one frame: integers of 8 to 64 bits, or floating point."""


@dataclass(frozen=True, slots=True)
class EncodeOptions:
    """How to encode; all of it is kept in the manifest, for decoding needs ``precision`` again.

    Parameters
    ----------
    effort : int
        1 (fast) to 9 (small) for JPEG XL, the level for Zstandard; without meaning for the other codecs.
    precision : int
        Number of bits that the values are held to be in: Bits Stored as a rule, Bits Allocated when something
        stands above them; of indexes where there are levels.
    levels : tuple of int
        Stored values, ascending, whose indexes are encoded in their place; () to encode the values themselves. It is
        heeded by :func:`registry.encode_frame` and :func:`registry.decode_frame`.
    """

    effort: int
    precision: int
    levels: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class DecodedFrame:
    """The samples of a received code stream, and how they are to be understood.

    Parameters
    ----------
    samples : ndarray
        Shape (rows, columns) or (rows, columns, samples), interleaved, native byte order; 1-bit frames as 0 and 1
        in uint8.
    spec : FrameSpec
        Of these samples: Photometric Interpretation after decoding, Planar Configuration 0.
    """

    samples: Samples
    spec: FrameSpec

    @property
    def photometric_interpretation(self) -> str:
        """Photometric Interpretation of the samples, which the code stream may have had another of."""
        return self.spec.photometric_interpretation


class Codec(Protocol):
    """Samples to code streams and back; without state, safe in threads."""

    @property
    def name(self) -> str:
        """Name in manifests and reports."""
        ...

    @property
    def extension(self) -> str:
        """File name extension of its code streams, without the dot."""
        ...

    def library(self) -> str:
        """Return name and version of what encodes, such as ``imagecodecs 2026.3.6 / libjxl 0.11.2``."""
        ...

    def refusal(self, spec: FrameSpec) -> str | None:
        """Say why frames of this kind cannot be held exactly; None when they can."""
        ...

    def encode(self, samples: Samples, spec: FrameSpec, options: EncodeOptions) -> bytes:
        """Compress one frame without loss.

        Parameters
        ----------
        samples : ndarray
            Shape (rows, columns) or (rows, columns, samples), stored values as :func:`native.unpack` gives them;
            never rescaled or windowed. It is not changed.
        spec : FrameSpec
            What the frame is.
        options : EncodeOptions
            Effort and precision.

        Returns
        -------
        bytes
            One complete code stream, not padded.

        Raises
        ------
        UnsupportedFrame
            If the codec cannot hold this frame exactly: its kind is refused, or a value needs more bits than the
            precision.
        EncodeError
            If the encoder fails all the same.

        References
        ----------
        PS3.5 8.2 (encapsulated formats), PS3.5 A.4.
        """
        ...

    def decode(self, stream: bytes, spec: FrameSpec, options: EncodeOptions) -> Samples:
        """Return the samples that :meth:`encode` was given, with the type that ``spec`` says.

        Raises
        ------
        DecodeError
            If the stream is damaged, or of another shape than ``spec``; shapes are compared before anything is
            allocated.
        """
        ...


@contextmanager
def encoding(codec: str) -> Iterator[None]:
    """Turn whatever a library raises into :class:`EncodeError`."""
    try:
        yield
    except LeanPACSError:
        raise
    except Exception as error:
        raise EncodeError(codec, _said(error)) from error


@contextmanager
def decoding(codec: str) -> Iterator[None]:
    """Turn whatever a library raises into :class:`DecodeError`."""
    try:
        yield
    except LeanPACSError:
        raise
    except Exception as error:
        raise DecodeError(codec, _said(error)) from error


def _said(error: Exception) -> str:
    return str(error) or type(error).__name__
