"""Lossy copies: what a rule may ask for, and what it never gets.

A lossy copy is another instance, in a series of its own in the same study, marked and with a reference to the one that
it was made of (PS3.3 C.7.6.1.1.5, C.12.4.1). The original stays whatever the copy is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Final, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator
from pydicom import uid

from leanpacs.catalog.ageing import Held, Outcome, Tried
from leanpacs.codecs.writing import Lossy, WriteOptions, write_refusal
from leanpacs.dicom.frames import FrameSpec
from leanpacs.dicom.uids import transfer_syntax as syntax_of
from leanpacs.errors import UnsupportedTransferSyntax
from leanpacs.transcode.target import syntax_named

NEVER: Final[frozenset[str]] = frozenset(
    map(
        str,
        (
            uid.DigitalXRayImageStorageForProcessing,
            uid.DigitalMammographyXRayImageStorageForProcessing,
            uid.DigitalIntraOralXRayImageStorageForProcessing,
            uid.BreastProjectionXRayImageStorageForProcessing,
            uid.SegmentationStorage,
            uid.ParametricMapStorage,
            uid.RTDoseStorage,
        ),
    )
)
"""SOP classes whose samples are measured or computed with, not looked at: no rule makes lossy copies of these."""

MAMMOGRAMS: Final = "MG"
"""Modality of images that in many places are not to be read, or kept, as lossy ones (in the USA: 21 CFR 900.12)."""

DERIVE: Final = "derive"
"""The step of a plan."""

_ANY_GREY: Final = FrameSpec(64, 64, 1, 8, 8, 7, 0, 0, "MONOCHROME2", 1)


def _written(name: str) -> str:
    try:
        return syntax_of(syntax_named(name)).keyword
    except UnsupportedTransferSyntax as error:
        raise ValueError(str(error)) from error


class LossyCopy(BaseModel):
    """How a lossy copy is made: the transfer syntax, and one number that says how much may be lost."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    to: Annotated[str, AfterValidator(_written)] = Field(
        description="Transfer syntax: keyword of PS3.6, such as JPEGXL, JPEG2000 or JPEGBaseline8Bit, or UID."
    )
    quality: float | None = Field(default=None, description="1 (small) to 100 (close), for JPEG and JPEG XL.")
    near: int | None = Field(default=None, description="Largest error of a sample, 1 to 255, for JPEG-LS.")
    ratio: float | None = Field(
        default=None, description="Bytes of the samples to bytes of the code stream, for JPEG 2000 and HTJ2K."
    )
    distance: float | None = Field(default=None, description="Above 0 (close) to 25 (small), for JPEG XL.")
    effort: int | None = Field(default=None, description="1 (fast) to 9 (small), for JPEG XL.")

    @model_validator(mode="after")
    def _can_be_made(self) -> Self:
        reason = write_refusal(_ANY_GREY, self.transfer_syntax, self.options)
        # Other images may have other bits; what no image could have is said now.
        if reason is not None and "bits stored" not in reason:
            raise ValueError(reason)
        return self

    @property
    def transfer_syntax(self) -> str:
        """UID of the transfer syntax."""
        return syntax_named(self.to)

    @property
    def options(self) -> WriteOptions:
        """What the writer is told."""
        lossy = Lossy(quality=self.quality, near=self.near, ratio=self.ratio, distance=self.distance)
        return WriteOptions(effort=self.effort, lossy=lossy)

    @property
    def name(self) -> str:
        """What tells it from other ones, for people too: ``JPEGXL distance=1``."""
        lossy = self.options.lossy
        assert lossy is not None
        effort = f" effort={self.effort}" if self.effort else ""
        return f"{self.to} {lossy.kind}={getattr(lossy, lossy.kind):g}{effort}"

    def __str__(self) -> str:
        return self.name


def lossy_copies(held: Held, wanted: LossyCopy | None, tried: Mapping[str, Tried]) -> dict[str, str]:
    """What became, or is to become, of lossy copies of an instance, by what they are called; for people."""
    found = {}
    if held.is_derived:
        return {"": "this is a lossy copy itself"}
    if wanted:
        named = held.sop_class in NEVER
        found[wanted.name] = "never made of this SOP class" if named else "to be made when it has settled"
    for goal, one in tried.items():
        step, _, name = goal.partition(" ")
        if step == DERIVE and one.outcome:
            found[name] = f"made: {one.detail}" if one.outcome == Outcome.DONE else f"{one.outcome}: {one.detail}"
    return found
