"""What tests of tiers do with an archive."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path

from executors import Inline
from leanpacs.archive.archive import Archive
from leanpacs.archive.intake.incoming import Incoming
from leanpacs.archive.settle.settler import Settler
from leanpacs.archive.tiers import RESTORES_FOLDER
from leanpacs.catalog import RepresentationRow


def take_in(archive: Archive, content: bytes) -> str:
    """Land and settle; the SOP Instance UID."""
    path = archive.spool_folder / hashlib.sha256(content).hexdigest()
    path.write_bytes(content)
    uid = archive.land(Incoming(path, "TESTER", "import")).sop_uid
    settle(archive)
    return uid


def settle(archive: Archive, *, once: bool = False) -> None:
    """Settle all that has landed, in this process; ``once``: what fails is not tried again."""
    Settler(
        archive.store, archive.catalog, archive.settings.settle, limit_inflated_bytes=1 << 30, executor=Inline
    ).drain(lambda: once)


RESTORE_SECONDS = 3600.0
"""Longer than any test takes: what an archive class was asked for is there when `time_passes` says so."""


def time_passes(folder: Path) -> None:
    """Let the time pass that restoring takes, in all archive classes of the archive in a folder."""
    earlier = time.time() - RESTORE_SECONDS - 1
    for asked in (folder / RESTORES_FOLDER).glob("*/*"):
        os.utime(asked, (earlier, earlier))


def given_back(archive: Archive, sop_uid: str) -> bytes:
    """The exact bytes that were received."""
    (instance,) = archive.catalog.instances(sop_uid=sop_uid)
    return b"".join(archive.retriever.as_received(instance).chunks)


def forms(archive: Archive, sop_uid: str) -> list[RepresentationRow]:
    """The stored forms of an instance."""
    (instance,) = archive.catalog.instances(sop_uid=sop_uid)
    return archive.catalog.representations(instance.id)


def tiers(archive: Archive, sop_uid: str) -> list[str]:
    """The tiers that an instance stands on."""
    return sorted(form.blob.tier for form in forms(archive, sop_uid))
