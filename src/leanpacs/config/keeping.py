"""What happens to instances from their arrival to their end."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Literal

from pydantic import Field

from leanpacs.config.section import Bytes, Seconds, Section


class DuplicatePolicy(StrEnum):
    """What to do with other bytes that arrive under a SOP Instance UID which is held already."""

    REFUSE = "refuse"
    KEEP = "keep"
    """Keep what came later in the quarantine."""
    REPLACE = "replace"


class StorageSettings(Section):
    """Where the archive keeps its files."""

    data: Path = Field(default=Path("leanpacs-data"), description="Folder of the archive: catalog, blobs and spool.")
    minimum_free_bytes: Bytes = Field(
        default=1 << 30,
        description="New instances are refused while the file system has less room than this.",
    )


class IngestSettings(Section):
    """Landing: what happens before a sender gets its acknowledgement."""

    duplicates: DuplicatePolicy = Field(
        default=DuplicatePolicy.REFUSE,
        description="Other bytes under a SOP Instance UID that is held already: 'refuse' them, 'keep' them in "
        "the quarantine, or 'replace' what is held. Equal bytes are always acknowledged and stored once.",
    )
    backlog_bytes: Bytes = Field(
        default=8 << 30, description="Senders wait while more than this has landed and is not settled yet."
    )
    backlog_wait_seconds: Seconds = Field(
        default=30.0,
        description="How long a sender is made to wait for the backlog before it is told to come again.",
    )
    largest_instance_bytes: Bytes = Field(
        default=64 << 30, description="Larger instances are refused while they arrive."
    )
    largest_inflated_bytes: Bytes = Field(
        default=4 << 30, description="A deflated data set that inflates to more than this is kept as it is."
    )


class SettleSettings(Section):
    """Settling: encode, decode back, compare, pack."""

    workers: int = Field(default=0, ge=0, le=1024, description="Worker processes; 0 means one for each CPU core.")
    preset: str = Field(
        default="fast",
        pattern=r"^[a-z0-9]+(:[0-9]{1,2})?$",
        description="What frames are encoded with: 'fast', 'balanced', 'dense', or one codec, such as 'jpegxl:7'. "
        "While the backlog is above pressed_backlog_bytes it is 'fast'.",
    )
    budget_seconds_per_gb: Seconds = Field(
        default=0.0,
        description="CPU seconds for each GB of samples that encoding and decoding back may take; "
        "0 takes what the preset allows (fast 60, balanced 250, dense 2000).",
    )
    pressed_budget_seconds_per_gb: Seconds = Field(
        default=5.0,
        gt=0,
        description="The same budget while the backlog is above pressed_backlog_bytes: 5 allows differences under "
        "Zstandard, 10 quick image codecs, too.",
    )
    pressed_backlog_bytes: Bytes = Field(
        default=8 << 20,
        description="Backlog above which the smaller budget holds, until it has come down to a quarter of this.",
    )
    recode: bool = Field(
        default=True,
        description="Whether received JPEG, JPEG-LS, JPEG Lossless and RLE is held in fewer bytes, from which it is "
        "made again byte for byte. While the backlog is above pressed_backlog_bytes it is kept as it came.",
    )
    drain_seconds: Seconds = Field(
        default=30.0,
        description="When the server stops, how long it goes on settling; the rest waits for the next start.",
    )


class DeliverySettings(Section):
    """Giving instances back."""

    cache_bytes: Bytes = Field(
        default=8 << 30,
        description="Room on disk, for each process that answers HTTP, for frames and metadata that were costly to "
        "make; nothing is added while the file system has less than storage.minimum_free_bytes. 0 keeps none.",
    )
    memory_bytes: Bytes = Field(
        default=64 << 20,
        description="Memory, for each process that gives back, for frames and instances that were made lately, so that "
        "those who ask for the same or the next ones have them at once; what nobody asks for in five minutes is let "
        "go. 0 keeps none.",
    )
    recent_bytes: Bytes = Field(
        default=1 << 30,
        description="Memory of the host (/dev/shm) for copies of what has just been settled, as it was received: what "
        "is looked at, or sent on, soon after it came need not be decoded. At most an eighth of what files in memory "
        "may take. 0 keeps none.",
    )
    recent_seconds: Seconds = Field(
        default=900.0, gt=0, description="How long these copies stay; any deletion removes all of them."
    )
    any_syntax: tuple[Literal["htj2k", "jpegls", "jpeg2000", "jpegxl"], ...] = Field(
        default=("htj2k", "jpegls", "jpeg2000"),
        description="Who accepts any transfer syntax of several instances (multipart/related, transfer-syntax=*) gets "
        "those that are held in one of these codecs as they are held. Add 'jpegxl' where all who say so can read it, "
        "leave out what they cannot; an empty list gives all instances as they were received, as one by itself is.",
    )
    verify_one_in: int = Field(
        default=32,
        ge=0,
        description="Instances that are transcoded for a receiver: one in so many is read back and compared before it "
        "goes out, and the first ones of each kind. 1 checks all, 0 none.",
    )
    ready_metadata: bool = Field(
        default=True,
        description="Whether the metadata of a series are made ready for viewers when nothing more comes for it, not "
        "only when they are asked for.",
    )
    restore_poll_seconds: Seconds = Field(
        default=15.0,
        gt=0,
        description="How often the server looks whether what was asked for in a tier of kind 'archive' can be read.",
    )


class WorkerSettings(Section):
    """Worker processes, in which image codecs run: one that crashes, hangs or grows is replaced."""

    decoders: int = Field(
        default=0,
        ge=0,
        le=1024,
        description="Worker processes that decode for retrieval, for each process that answers; 0 means one for each "
        "CPU core. They are started when they are first needed.",
    )
    memory_bytes: int = Field(
        default=4 << 30, ge=256 << 20, description="What a worker may need beyond what it has when it starts."
    )
    frame_seconds: Seconds = Field(
        default=300.0, gt=0, description="What decoding one frame may take; small frames are given less."
    )
    instance_seconds: Seconds = Field(default=3600.0, gt=0, description="What settling one instance may take.")


class DeleteSettings(Section):
    """Deleting: tombstone first, blobs later."""

    grace_seconds: Seconds = Field(
        default=86_400.0, description="How long the blobs of a deleted instance stay before they are swept."
    )
