"""The name of a host's part of an archive, by which its claims are told from those of other hosts."""

from __future__ import annotations

import os
import uuid
from pathlib import Path

HOST_FILE = "host"


def host_name(data: Path) -> str:
    """Name of the archive folder ``data``: made up once, and kept in it for as long as the folder lives.

    Raises
    ------
    OSError
        If the folder cannot be read or written.
    """
    file = data / HOST_FILE
    if not file.exists():
        made = data / f"{HOST_FILE}.{os.getpid()}"
        made.write_text(uuid.uuid4().hex + "\n", encoding="ascii")
        try:
            file.hardlink_to(made)  # unlike a rename, never replaces what another process made
        except FileExistsError:
            pass
        finally:
            made.unlink()
    return file.read_text(encoding="ascii").strip()
