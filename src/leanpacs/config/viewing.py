"""A viewer that runs in browsers, served beside DICOMweb."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from leanpacs.config.section import Section


class ViewerSettings(Section):
    """A viewer for browsers, such as OHIF: a folder of files that the HTTP door hands out."""

    folder: Path | None = Field(
        default=None, description="Folder with its index.html; without it there is no viewer. See how-to/viewer."
    )
    path: str = Field(
        default="/viewer",
        pattern=r"^(/[A-Za-z0-9_-]+)+$",
        description="Where it is found at the HTTP door; the viewer has to be built for this path.",
    )
    study: str = Field(
        default="viewer?StudyInstanceUIDs={study}",
        pattern=r"^[^{}]*(\{study\}[^{}]*)?$",
        description="Address of one study relative to that path, for the links on the archive's page.",
    )
