"""A real server on a real socket, filled once for all tests of this folder."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from data import (
    EXPLICIT_BE,
    HTJ2K,
    IMPLICIT_LE,
    JPEG_BASELINE,
    JPEG_LS,
    RLE,
    Recipe,
    make_instance,
)
from leanpacs.archive.archive import Archive, open_archive
from leanpacs.config import Settings
from leanpacs.services.dicomweb.app import DicomWebOptions
from leanpacs.services.http import HttpOptions, serve
from leanpacs.telemetry import Metrics
from unit.services.dicomweb_fakes import multipart

ORIGIN = "https://viewer.example"
STORE = {"content-type": 'multipart/related; type="application/dicom"; boundary=b0und'}

CT = Recipe(study=1, series=1, instance=1)
RECIPES = (
    CT,
    Recipe(study=1, series=1, instance=2, signed=True, transfer_syntax=IMPLICIT_LE),
    Recipe(study=1, series=2, instance=3, transfer_syntax=EXPLICIT_BE, modality="MR"),
    Recipe(study=1, series=3, instance=4, kind="none", modality="SR", private_bytes=5000),
    Recipe(study=2, instance=5, frames=4, transfer_syntax=JPEG_LS, modality="XA"),
    Recipe(study=2, series=1, instance=6, frames=3, bits_allocated=8, bits_stored=8, transfer_syntax=RLE),
    Recipe(
        study=3,
        instance=7,
        samples=3,
        bits_allocated=8,
        bits_stored=8,
        modality="US",
        transfer_syntax=JPEG_BASELINE,
    ),
    Recipe(study=4, instance=8, rows=64, columns=48, modality="MG", transfer_syntax=HTJ2K, icon=True),
)


@dataclass(frozen=True)
class Door:
    """The HTTP door of a filled archive."""

    archive: Archive
    origin: str
    http: httpx.Client

    @property
    def root(self) -> str:
        """URL of the DICOMweb service."""
        return f"{self.origin}/dicom-web"

    def get(self, path: str, accept: str | None = None, **headers: str) -> httpx.Response:
        """GET below the service; header names with underscores."""
        fields = {name.replace("_", "-"): value for name, value in headers.items()}
        fields |= {"accept": accept} if accept is not None else {}
        return self.http.get(self.root + path, headers=fields)

    def store(self, files: Sequence[bytes], path: str = "/studies") -> httpx.Response:
        """POST instances."""
        return self.http.post(self.root + path, content=multipart(files), headers=STORE)


def study(recipe: Recipe) -> str:
    """Path of the recipe's study."""
    return f"/studies/{recipe.study_uid}"


def series(recipe: Recipe) -> str:
    """Path of the recipe's series."""
    return f"{study(recipe)}/series/{recipe.series_uid}"


def instance(recipe: Recipe) -> str:
    """Path of the recipe's instance."""
    return f"{series(recipe)}/instances/{recipe.sop_uid}"


@pytest.fixture(scope="session")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    folder: Path = tmp_path_factory.mktemp("conformance")
    stop = threading.Event()
    settings = Settings(storage={"minimum_free_bytes": 0})
    with (
        open_archive(folder / "archive", settings) as archive,
        httpx.Client(timeout=120) as http,
        socket.create_server(("127.0.0.1", 0)) as listener,
    ):
        origin = f"http://127.0.0.1:{listener.getsockname()[1]}"
        options = HttpOptions(dicomweb=DicomWebOptions(deleting=True), cors_origins=(ORIGIN,))
        arguments = (listener, archive, options, stop)
        serving = threading.Thread(target=serve, args=arguments, kwargs={"metrics": Metrics()})
        serving.start()
        found = Door(archive, origin, http)
        try:
            assert found.store([make_instance(recipe) for recipe in RECIPES]).status_code == 200
            yield found
        finally:
            stop.set()
            serving.join(30)
