"""A real archive with its DIMSE door in this process, filled by recipe."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pydicom

import data
from dimse_peer import door
from leanpacs.archive.archive import Archive, open_archive
from leanpacs.archive.intake.incoming import Incoming
from leanpacs.config import Settings


def settings(**sections: Any) -> Settings:
    """Settings for a small archive."""
    return Settings(**{"storage": {"minimum_free_bytes": 0}, "workers": {"decoders": 1}, **sections})


def put(archive: Archive, content: bytes) -> str:
    """Land a file; its SOP Instance UID."""
    path = archive.spool_folder / hashlib.sha256(content).hexdigest()
    path.write_bytes(content)
    return archive.land(Incoming(path, "TESTER", "import")).sop_uid


def made(recipe: data.Recipe | None = None, **attributes: Any) -> bytes:
    """A file by recipe, with some attributes set by keyword."""
    ds = pydicom.dcmread(io.BytesIO(data.make_instance(recipe or data.Recipe())), force=True)
    for keyword, value in attributes.items():
        setattr(ds, keyword, value)
    stream = io.BytesIO()
    ds.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


@contextmanager
def served(folder: Path, *contents: bytes, **options: Any) -> Iterator[tuple[Archive, tuple[str, int]]]:
    """An archive that holds ``contents``, and the address of its door."""
    with open_archive(folder, settings()) as archive:
        for content in contents:
            put(archive, content)
        with door(archive, holdings=archive, **options) as address:
            yield archive, address
