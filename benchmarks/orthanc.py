"""Debian's Orthanc: where it is, and how it is set up; for comparisons, and for the tests."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

NOT_INSTALLED: Final = "Orthanc is not installed (Debian packages orthanc, orthanc-dicomweb, orthanc-gdcm)"
DICOMWEB: Final = "OrthancDicomWeb"
GDCM: Final = "OrthancGdcm"
WORKLISTS: Final = "ModalityWorklists"
"""Names of plug-ins."""

_FOLDERS: Final = (Path("/usr/lib/orthanc"), Path("/usr/share/orthanc/plugins"))
_JPEG_2000: Final = tuple(f"1.2.840.10008.1.2.4.{last}" for last in (90, 91, 92, 93))


def program() -> str | None:
    """Path of Orthanc; None where it is not installed."""
    # Debian puts it where the PATH of ordinary users does not look.
    return shutil.which("Orthanc", path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin"]))


def plugins(*names: str) -> list[Path]:
    """The plug-ins of these names that are installed, the newest of each."""
    found = ([path for folder in _FOLDERS for path in sorted(folder.glob(f"lib{name}.so*"))[-1:]] for name in names)
    return [paths[0] for paths in found if paths]


def configuration(
    storage: Path, *, name: str, ae_title: str, http_port: int, dimse_port: int, used: Sequence[Path], threads: int
) -> dict[str, Any]:
    """What each Orthanc here is started with, on 127.0.0.1 and for nobody else.

    See https://orthanc.uclouvain.be/book/users/configuration.html.
    """
    return {
        "Name": name,
        "StorageDirectory": str(storage),
        "IndexDirectory": str(storage),
        "Plugins": [str(path) for path in used],
        "HttpPort": http_port,
        "DicomPort": dimse_port,
        "DicomAet": ae_title,
        "DicomCheckCalledAet": False,
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
        # GDCM is held to JPEG 2000: left to do JPEG-LS too, it brings the server down.
        "Gdcm": {"Enable": True, "Throttling": threads, "RestrictTransferSyntaxes": list(_JPEG_2000)},
    }
