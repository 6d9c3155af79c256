"""``GET /``: one page that tells what the archive holds."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

import jinja2
from starlette.responses import HTMLResponse

from leanpacs import __version__
from leanpacs.services.origin import origin
from leanpacs.services.ui.view import view

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from leanpacs.catalog import Catalog
    from leanpacs.services.figures import Figures
    from leanpacs.services.threads import Threads

_NEWEST: Final = 25


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where the services are, for the page.

    Attributes
    ----------
    dicomweb_root : str
        Path of the DICOMweb service.
    dimse : str
        HOST:PORT of the DIMSE door, '' when there is none.
    ae_title : str
        Its AE title.
    public_url : str
        Scheme and authority of this server; '': as the client says.
    study_url : str
        Where a viewer shows ``{study}``, '' when there is none.
    """

    dicomweb_root: str
    dimse: str = ""
    ae_title: str = ""
    public_url: str = ""
    study_url: str = ""


class Page:
    """Makes the page.

    Parameters
    ----------
    catalog : Catalog
        For the newest studies.
    figures : Figures
        For all that is counted.
    threads : Threads
        Where both are asked.
    addresses : Addresses
        Where the services are.
    """

    def __init__(self, catalog: Catalog, figures: Figures, threads: Threads, addresses: Addresses) -> None:
        self._catalog = catalog
        self._figures = figures
        self._threads = threads
        self._addresses = addresses
        folder = resources.files("leanpacs.services.ui").joinpath("templates")
        self._style = folder.joinpath("page.css").read_text(encoding="utf-8")
        self._template = jinja2.Environment(
            autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
        ).from_string(folder.joinpath("page.html").read_text(encoding="utf-8"))
        self._headers = {
            "content-security-policy": _policy(self._style),
            "cache-control": "no-store",
            "x-frame-options": "DENY",
        }

    async def show(self, request: Request) -> Response:
        """Answer GET /."""
        base = origin(request, self._addresses.public_url)
        return HTMLResponse(await self._threads.run(self._render, base), headers=self._headers)

    def _study_url(self, uid: str) -> str:
        return self._addresses.study_url.replace("{study}", quote(uid, safe=""))

    def _render(self, base: str) -> str:
        shown = view(self._figures.status(), self._catalog.newest_studies(_NEWEST))
        return self._template.render(
            view=shown,
            style=self._style,
            version=__version__,
            dicomweb=base + self._addresses.dicomweb_root,
            metrics=f"{base}/metrics",
            study_url=self._study_url,
            dimse=self._addresses.dimse,
            ae_title=self._addresses.ae_title,
        )


def _policy(style: str) -> str:
    """Content Security Policy: nothing but this style sheet, which stands in the page."""
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    return (
        f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
