"""Make a lossy copy of an instance that has settled: another instance, durable, not yet named in the catalog.

What is made here lands and settles as what is received does. The instance that it is made of is only read. UIDs follow
from what was received and from how the copy is made: whoever makes it again gives it the same ones.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import uuid
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from time import process_time
from typing import TYPE_CHECKING, Final

from leanpacs.archive.giveback.opened import open_pack
from leanpacs.archive.settle.again import Source
from leanpacs.archive.settle.settling import dictionaries_of
from leanpacs.catalog import DERIVED, Arrival, Landing
from leanpacs.dicom.attributes import InstanceIndex, index
from leanpacs.dicom.instance import scan
from leanpacs.dicom.uids import transfer_syntax
from leanpacs.dicom.write import IMPLEMENTATION_CLASS_UID, read_head
from leanpacs.errors import UnsupportedFrame, UnsupportedTransferSyntax
from leanpacs.refs import BlobRef, Digest
from leanpacs.storage.store import BlobStore

if TYPE_CHECKING:
    from io import BufferedRandom

    from leanpacs.transcode.engine import Transcoded
    from leanpacs.transcode.source import OpenInstance
    from leanpacs.transcode.target import Target

UID_ROOT: Final = "2.25."
"""Of UIDs that are made of UUIDs (PS3.5 B.2)."""

_NAMES: Final = uuid.UUID(int=int(IMPLEMENTATION_CLASS_UID.rpartition(".")[2]))


@dataclass(frozen=True, slots=True)
class Derive:
    """How a lossy copy is made, and where it goes; small and picklable.

    Parameters
    ----------
    source : Source
        What it is made of.
    target : BlobStore
        Where it is made durable.
    to : Target
        What is wanted; lossy, with an identity.
    sender : str
        What the copy is said to come from.
    at : datetime
        When it is said to have come.
    dictionary_names : tuple of str
        Dictionaries in the target store when the task was made.
    limit_inflated_bytes : int
        Deflated data sets that inflate to more are not copied.
    below_bytes : int
        The copy is only wanted if it is smaller than this.
    """

    source: Source
    target: BlobStore
    to: Target
    sender: str
    at: datetime
    dictionary_names: tuple[str, ...]
    limit_inflated_bytes: int
    below_bytes: int


@dataclass(frozen=True, slots=True)
class Derived:
    """A copy that is durable; or, with a ``reason``, none: it cannot be made, or would be of no use."""

    index: InstanceIndex | None
    landing: Landing | None
    cpu_seconds: float
    reason: str = ""


def uid_of(made_of: str, how: str) -> str:
    """UID of a copy: equal for equal originals (a digest, or a UID) that are copied in the same way."""
    return f"{UID_ROOT}{uuid.uuid5(_NAMES, f'{made_of}/{how}').int}"


def derive(task: Derive) -> Derived:
    """Make a lossy copy, decode what was written, make it durable.

    Raises
    ------
    StorageError, PackError
        The original cannot be read, or the copy not be written. Nothing was changed.
    DecodeError, EncodeError, VerificationError
        A code stream is damaged, or an encoder fails. Nothing was changed.
    """
    cpu = process_time()
    known = dictionaries_of(task.target, task.dictionary_names)
    folder = task.target.spool_folder()
    descriptor, name = tempfile.mkstemp(prefix="lossy-", dir=folder)
    path = Path(name)
    try:
        with (
            os.fdopen(descriptor, "w+b") as file,
            open_pack(
                task.source.store,
                task.source.blob.digest,
                known,
                task.source.sop_uid,
                limit_inflated_bytes=task.limit_inflated_bytes,
            ) as source,
        ):
            try:
                made = _made(source, task.to, folder)
                for piece in made.pieces:
                    file.write(piece)
            except (UnsupportedTransferSyntax, UnsupportedFrame) as error:
                return Derived(None, None, process_time() - cpu, str(error))
            if file.tell() >= task.below_bytes:
                reason = f"its {file.tell()} bytes are not fewer than the {task.below_bytes} that are held"
                return Derived(None, None, process_time() - cpu, reason)
            found, landing = _landing(task, file)
        task.target.adopt(path, landing.blob.digest)
    finally:
        path.unlink(missing_ok=True)
    return Derived(found, landing, process_time() - cpu)


def _made(source: OpenInstance, to: Target, folder: Path) -> Transcoded:
    from leanpacs.transcode.engine import Transcoder

    layout = source.layout
    head = read_head(source.head(), implicit_vr=layout.implicit_vr, little_endian=layout.little_endian)
    if head.get("LossyImageCompression") == "01" or transfer_syntax(layout.transfer_syntax).lossless is False:
        raise UnsupportedTransferSyntax(to.transfer_syntax, "it is lossy already")
    return Transcoder(spool=folder).file(source, to)


def _landing(task: Derive, file: BufferedRandom) -> tuple[InstanceIndex, Landing]:
    """Index what was written, as it is read back."""
    size = file.tell()
    file.seek(0)
    whole = Digest(hashlib.file_digest(file, "sha256").digest())
    file.seek(0)
    layout = scan(file)
    file.seek(layout.preface_length)
    data_set = Digest(hashlib.file_digest(file, "sha256").digest())
    pixel_bytes = layout.pixel.length if layout.pixel else 0
    arrival = Arrival(
        transfer_syntax=layout.transfer_syntax,
        data_set_length=size - layout.preface_length,
        data_set_digest=data_set,
        received_at=task.at,
        sender=task.sender,
        door=DERIVED,
    )
    blob = BlobRef(task.target.tier, whole, size)
    landing = Landing(arrival, blob, layout.preface_length, layout.length - pixel_bytes, pixel_bytes)
    return index(layout, data_set), landing
