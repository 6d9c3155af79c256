"""What is sent on to other application entities, and how patiently; what modalities are told to do."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from leanpacs.config.section import AETitle, Seconds, Section

_PATTERNS = "patterns with * and ?, one of which must match, whatever the case"


class ForwardRule(Section):
    """One rule: instances that match all that it names are sent on when they have arrived.

    Never to whom they came from.
    """

    to: tuple[AETitle, ...] = Field(
        min_length=1, description="AE titles of destinations, in these settings or added by `leanpacs destination add`."
    )
    name: str = Field(default="", description="What the outbox calls it.")
    sender: tuple[str, ...] = Field(default=(), description=f"Calling AE title: {_PATTERNS}.")
    door: tuple[str, ...] = Field(
        default=(),
        description="Over what it came: dimse, stow or import; derived for lossy copies, which no other rule sends.",
    )
    modality: tuple[str, ...] = Field(default=(), description="Modality (0008,0060), in the same way.")
    sop_class: tuple[str, ...] = Field(default=(), description="SOP Class UID (0008,0016).")
    station_name: tuple[str, ...] = Field(default=(), description="Station Name (0008,1010).")
    institution_name: tuple[str, ...] = Field(default=(), description="Institution Name (0008,0080).")
    body_part_examined: tuple[str, ...] = Field(default=(), description="Body Part Examined (0018,0015).")
    study_description: tuple[str, ...] = Field(default=(), description="Study Description (0008,1030).")
    series_description: tuple[str, ...] = Field(default=(), description="Series Description (0008,103E).")
    referring_physician_name: tuple[str, ...] = Field(
        default=(), description="Referring Physician's Name (0008,0090), as it is written."
    )


class OutboxSettings(Section):
    """Instances that wait to be sent: after a forward rule, or `leanpacs send --queue`."""

    senders: int = Field(default=4, ge=1, le=64, description="Destinations that are sent to at the same time.")
    first_retry_seconds: Seconds = Field(
        default=15.0, gt=0, description="Until a destination that did not answer is tried again; doubles each time."
    )
    longest_retry_seconds: Seconds = Field(default=1800.0, gt=0, description="Most of that.")
    give_up_seconds: Seconds = Field(
        default=604_800.0,
        description="An instance that could not be sent for so long has failed; `leanpacs outbox retry` tries again.",
    )


class WorklistSettings(Section):
    """The modality worklist."""

    folder: Path | None = Field(
        default=None,
        description="Folder with a file for each order: DICOM (.wl, .dcm) or DICOM JSON (.json). By default `worklist` "
        "in storage.data.",
    )
