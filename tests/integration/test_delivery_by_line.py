"""What goes over a line goes by how fast it is: a client behind a slow one is found out, and served accordingly."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from benchmarks.slowline import SlowLine

from data import Recipe, make_instance
from leanpacs.archive.archive import Archive, open_archive
from leanpacs.config import Settings, SiteSettings
from leanpacs.services.http import HttpOptions, create_app
from leanpacs.services.ledger import Ledger, Sites
from leanpacs.services.links import Links
from leanpacs.services.server import serve
from unit.services.dicomweb_fakes import multipart, parts_of

EXPLICIT_LE, JPEG_LS, HTJ2K = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.201"
RECIPE = Recipe(modality="MG", rows=1024, columns=1024)
LARGE = Recipe(study=2, modality="MG", rows=2400, columns=2400, frames=2)
SLOW_BITS = 200e6
FILES = 'multipart/related; type="application/dicom"; transfer-syntax={}'
ANY_OF = ", ".join(map(FILES.format, (EXPLICIT_LE, JPEG_LS, HTJ2K)))
NATIVE = {"accept": f"application/dicom; transfer-syntax={EXPLICIT_LE}"}


@contextmanager
def door(archive: Archive, links: Links) -> Iterator[int]:
    """Serve an archive; the port."""
    stop, ledger = threading.Event(), Ledger(lambda _: None)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        app = create_app(archive, HttpOptions(), ledger=ledger, links=links)
        serving = threading.Thread(target=serve, args=(listener, app, stop))
        serving.start()
        try:
            yield listener.getsockname()[1]
        finally:
            stop.set()
            serving.join(30)


def chosen(response: httpx.Response) -> str:
    """Transfer syntax of the one part."""
    assert response.status_code == 200, response.text
    (part,) = parts_of(response)
    return part.fields["Content-Type"].partition("transfer-syntax=")[2]


def test_a_slow_line_is_noticed_and_gets_smaller_forms(tmp_path: Path) -> None:
    path = f"/dicom-web/studies/{RECIPE.study_uid}"
    large = f"/dicom-web/studies/{LARGE.study_uid}/series/{LARGE.series_uid}/instances/{LARGE.sop_uid}"
    with (
        open_archive(tmp_path / "archive", Settings(storage={"minimum_free_bytes": 0})) as archive,
        door(archive, Links()) as port,
        SlowLine(port, SLOW_BITS, 0.001) as line,
        httpx.Client(timeout=60) as client,
    ):
        near, far = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{line.port}"
        sent = client.post(
            f"{near}/dicom-web/studies",
            content=multipart([make_instance(RECIPE), make_instance(LARGE)]),
            headers={"content-type": 'multipart/related; type="application/dicom"; boundary=b0und'},
        )
        assert sent.status_code == 200
        before = client.get(near + path, headers={"accept": ANY_OF})
        assert "unknown line" in before.headers["server-timing"]
        whole = client.get(far + large, headers=NATIVE | {"accept-encoding": "identity"})
        assert len(whole.content) > 23_000_000
        after = client.get(far + path, headers={"accept": ANY_OF})
        told = after.headers["server-timing"]
        measured = float(told.split(" MB/s")[0].rpartition(" ")[2])
        assert 0 < measured / (SLOW_BITS / 8e6) < 2.5  # a busy machine may be slower than the line
        assert told.startswith("choice;dur=")
        assert chosen(after) == told.partition('desc="')[2].partition(":")[0] != EXPLICIT_LE
        one = client.get(far + path, headers={"accept": FILES.format(HTJ2K)})
        assert "server-timing" not in one.headers  # there was nothing to choose


@pytest.mark.parametrize(("megabits", "form"), [(5.0, JPEG_LS), (20_000.0, EXPLICIT_LE)])
def test_what_is_known_of_a_site_decides(tmp_path: Path, megabits: float, form: str) -> None:
    links = Links(Sites({"here": SiteSettings(addresses=("127.0.0.0/8",))}), {"here": megabits})
    path = f"/dicom-web/studies/{RECIPE.study_uid}/series/{RECIPE.series_uid}/instances/{RECIPE.sop_uid}"
    with (
        open_archive(tmp_path / "archive", Settings(storage={"minimum_free_bytes": 0})) as archive,
        door(archive, links) as port,
        httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client,
    ):
        headers = {"content-type": "application/dicom"}
        assert client.post("/dicom-web/studies", content=make_instance(RECIPE), headers=headers).status_code == 200
        either = ", ".join(f'multipart/related; type="{kind}"' for kind in ("application/octet-stream", "image/jls"))
        frames = client.get(f"{path}/frames/1", headers={"accept": either, "accept-encoding": "zstd"})
        assert chosen(frames) == form
        native = client.get(path, headers=NATIVE | {"accept-encoding": "zstd"})
        assert native.headers.get("content-encoding", "identity") == ("identity" if form == EXPLICIT_LE else "zstd")
        assert native.content == make_instance(RECIPE)
