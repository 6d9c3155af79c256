"""A viewer for browsers: the files of a folder, which are none of ours.

Such a viewer is one page that draws other pages by itself: what is not a file of the folder, and does not look
like one, is a page of the viewer's, so that its addresses can be kept and sent around.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from starlette.exceptions import HTTPException
from starlette.responses import RedirectResponse
from starlette.staticfiles import StaticFiles

from leanpacs.errors import ConfigError
from leanpacs.services.operations import Operation, Parameter, Right

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.types import Scope

INDEX: Final = "index.html"
_HASHED: Final = re.compile(r"(^|[./-])[0-9a-f]{16,}\.[a-z0-9]+$")
"""Names that bundlers give: another content has another name."""

_FOR_EVER: Final = "public, max-age=31536000, immutable"
_ASK_AGAIN: Final = "no-cache"


@dataclass(frozen=True, slots=True)
class ViewerOptions:
    """Which viewer there is.

    Attributes
    ----------
    folder : Path
        With its index.html.
    root : str
        Path at which it is found.
    study : str
        Address of ``{study}``, relative to that path.
    """

    folder: Path
    root: str = "/viewer"
    study: str = "viewer?StudyInstanceUIDs={study}"

    @property
    def study_url(self) -> str:
        """Path at which it shows ``{study}``."""
        return f"{self.root}/{self.study}"


def viewer_operations(options: ViewerOptions) -> list[Operation]:
    """Return what answers for the viewer.

    Its files are for anybody: there is nothing about patients in them, and who logs in with it needs them before that.

    Raises
    ------
    ConfigError
        The folder has no index.html.
    """
    viewer = Viewer(options.folder)

    async def enter(_request: Request) -> Response:
        return RedirectResponse(f"{options.root}/")

    async def show(request: Request) -> Response:
        name = request.path_params.get("path", "")
        return await viewer.get_response(os.path.normpath(name) if name else INDEX, request.scope)

    kinds = ("text/html", "text/javascript", "text/css", "application/wasm", "*/*")
    root = Operation(
        "viewer",
        "GET",
        options.root,
        enter,
        Right.NONE,
        "The way to the viewer.",
        gives={307: ()},
    )
    page = Operation(
        "viewer-file",
        "GET",
        f"{options.root}/{{path:path}}",
        show,
        Right.NONE,
        "The viewer for browsers, and its files.",
        parameters=(Parameter("path", "A file of the viewer, or a page that it draws itself.", place="path"),),
        gives={200: kinds, 206: kinds, 304: ()},
        refuses=(404,),
    )
    return [root, replace(page, path=f"{options.root}/"), page]


class Viewer(StaticFiles):
    """Hands out the files of a folder.

    Parameters
    ----------
    folder : Path
        With the viewer's index.html.

    Raises
    ------
    ConfigError
        The folder has no index.html.
    """

    def __init__(self, folder: Path) -> None:
        if not (folder / INDEX).is_file():
            raise ConfigError("viewer.folder", str(folder), f"has no {INDEX}: it is not the folder of a viewer")
        super().__init__(directory=folder)

    async def get_response(self, path: str, scope: Scope) -> Response:
        """Answer with a file, or with the viewer's page where the path names none."""
        try:
            response = await super().get_response(INDEX if path in ("", ".") else path, scope)
        except HTTPException as error:
            if error.status_code != 404 or "." in path.rpartition("/")[2]:
                raise
            response = await super().get_response(INDEX, scope)
        response.headers["cache-control"] = _FOR_EVER if _HASHED.search(path) else _ASK_AGAIN
        return response
