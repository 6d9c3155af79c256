"""A real browser for tests: Chromium by playwright, which sees nothing but 127.0.0.1; and OHIF, from npm, to run in it.

Debian package chromium. Tests skip where it is not installed, or where OHIF can be fetched from nowhere.
``LEANPACS_TEST_CACHE`` names the folder where what was fetched is kept (``~/.cache/leanpacs``).
"""

from __future__ import annotations

import importlib.util
import io
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

_FETCH = Path(__file__).parents[1] / "scripts" / "fetch_ohif.py"
_OPTIONS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)
_PATIENCE_MS = 120_000
"""Playwright gives up after 30 seconds, which a busy machine may need to load OHIF."""
_ONLY_THE_IMAGE = "body * { visibility: hidden !important } canvas { visibility: visible !important }"


@contextmanager
def running_browser() -> Iterator[Browser]:
    """Start Chromium; skips where there is none."""
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("Chromium is not installed (Debian package chromium)")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=list(_OPTIONS), timeout=_PATIENCE_MS)
        try:
            yield browser
        finally:
            browser.close()


def patient_page(browser: Browser, **options: Any) -> Page:
    """A page of its own that waits long for what it is asked for."""
    page = browser.new_page(**options)
    page.set_default_timeout(_PATIENCE_MS)
    return page


def ohif() -> Path:
    """The folder of OHIF for ``/viewer``, fetched when it is not there yet; skips when it cannot be had."""
    fetch = fetch_ohif_script()
    folder: Path = Path(os.environ.get("LEANPACS_TEST_CACHE", Path.home() / ".cache" / "leanpacs")) / "ohif"
    try:
        fetch.fetch_ohif(folder, fetch.Place())
    except fetch.FetchError as error:
        pytest.skip(f"OHIF is not at hand: {error}")
    return folder


def fetch_ohif_script() -> ModuleType:
    """The script as a module."""
    spec = importlib.util.spec_from_file_location("fetch_ohif", _FETCH)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def image_shown(page: Page) -> NDArray[np.uint8]:
    """What the first image on a page of OHIF looks like, without the texts over it: (rows, columns, RGB)."""
    canvas = page.locator("canvas.cornerstone-canvas").first
    shot = canvas.screenshot(style=_ONLY_THE_IMAGE, animations="disabled")
    return np.asarray(Image.open(io.BytesIO(shot)).convert("RGB"))


def fitted(image: NDArray[np.uint8], shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """An image as large as fits in ``shape`` (rows, columns), in its middle, on black: (rows, columns, RGB)."""
    rows, columns = shape[:2]
    scale = min(rows / image.shape[0], columns / image.shape[1])
    size = round(image.shape[1] * scale), round(image.shape[0] * scale)
    frame = Image.new("RGB", (columns, rows))
    frame.paste(
        Image.fromarray(image).convert("RGB").resize(size, Image.Resampling.BILINEAR),
        ((columns - size[0]) // 2, (rows - size[1]) // 2),
    )
    return np.asarray(frame)


def likeness(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> float:
    """Correlation of two images of one shape after both are made small, so that interpolation does not count: to 1."""
    small = [
        np.asarray(Image.fromarray(image).resize((128, 96), Image.Resampling.BOX), dtype=np.float64).ravel()
        for image in (one, other)
    ]
    if min(image.std() for image in small) < 1:
        return 0.0
    return float(np.corrcoef(*small)[0, 1])
