"""How a frame is to be written, and what comes of it."""

from __future__ import annotations

from dataclasses import dataclass, fields

from leanpacs.dicom.frames import FrameSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Lossy:
    """How much may be lost; exactly one is given, and each family knows its own.

    Parameters
    ----------
    quality : float, optional
        1 (small) to 100 (close), for JPEG and JPEG XL.
    near : int, optional
        Largest error of a sample, 1 to 255, for JPEG-LS.
    ratio : float, optional
        Bytes of the samples (Bits Stored of each) to bytes of the code stream, above 1, for JPEG 2000 and HTJ2K.
    distance : float, optional
        Butteraugli distance, above 0 to 25, for JPEG XL; about 1 cannot be told from the original by eye.

    Raises
    ------
    ValueError
        If none, more than one, or one out of its range is given.
    """

    quality: float | None = None
    near: int | None = None
    ratio: float | None = None
    distance: float | None = None

    def __post_init__(self) -> None:
        if sum(getattr(self, field.name) is not None for field in fields(self)) != 1:
            raise ValueError("exactly one of quality, near, ratio and distance says how much may be lost")
        if self.quality is not None and not 1 <= self.quality <= 100:
            raise ValueError(f"a quality of {self.quality} is not from 1 to 100")
        if self.near is not None and not 1 <= self.near <= 255:
            raise ValueError(f"an error of {self.near} is not from 1 to 255")
        if self.ratio is not None and not self.ratio > 1:
            raise ValueError(f"a ratio of {self.ratio} is not above 1")
        if self.distance is not None and not 0 < self.distance <= 25:
            raise ValueError(f"a distance of {self.distance} is not above 0 and up to 25")

    @property
    def kind(self) -> str:
        """Name of the one that is given."""
        return next(field.name for field in fields(self) if getattr(self, field.name) is not None)


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteOptions:
    """How to write.

    Parameters
    ----------
    effort : int, optional
        1 (fast) to 9 (small), for JPEG XL and Deflated Image Frame; without meaning for the others.
    lossy : Lossy, optional
        How much may be lost; nothing when None.
    """

    effort: int | None = None
    lossy: Lossy | None = None

    def __post_init__(self) -> None:
        if self.effort is not None and not 1 <= self.effort <= 9:
            raise ValueError(f"an effort of {self.effort} is not from 1 to 9")


@dataclass(frozen=True, slots=True)
class WrittenFrame:
    """A code stream, and the attributes that a data set with it must have.

    Parameters
    ----------
    stream : bytes
        Complete, not padded to even length.
    spec : FrameSpec
        Photometric Interpretation, bits and Planar Configuration as PS3.5 8.2 wants them beside the code stream.
    """

    stream: bytes
    spec: FrameSpec
