"""Blobs without a name: left by a catalog that went away, found by the daily search, and nothing else is taken."""

from __future__ import annotations

from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

import data
import postgres_server
from ageing import Clock, inline, taken_in
from executors import Inline
from leanpacs.archive.archive import Archive, open_archive
from leanpacs.archive.care.sweeping import Sweeper
from leanpacs.archive.intake.incoming import Incoming
from leanpacs.archive.settle.settler import Settler
from leanpacs.config import Settings
from leanpacs.errors import CatalogUnavailable
from leanpacs.lifecycle.policy import Policy
from leanpacs.lifecycle.runner import Lifecycle
from postgres_server import PostgresServer
from s3_server import S3Server
from soundness import is_at_rest, is_whole

PLAIN: dict[str, Any] = {
    "storage": {"minimum_free_bytes": 0},
    "delete": {"grace_seconds": 0},
    "settle": {"preset": "zstd:1"},
    "lifecycle": {"replaced_grace_seconds": 0},
}
DAY = timedelta(days=1)


def unnamed(archive: Archive) -> int:
    """Blobs in the stores that the catalog does not know."""
    named = {(ref.tier, ref.digest) for ref in archive.catalog.all_blob_refs()}
    return sum((store.tier, stat.digest) not in named for store in archive.stores for stat in store.list())


@pytest.mark.slow
@pytest.mark.skipif(postgres_server.programs() is None, reason="PostgreSQL is not installed (Debian: postgresql)")
def test_what_was_uploaded_just_before_the_catalog_went_away(tmp_path: Path, s3_server: S3Server) -> None:
    contents = [data.make_instance(data.Recipe(instance=number, rows=48, columns=48)) for number in range(3)]
    policy = Policy.model_validate({"name": "x", "rules": [{"name": "all", "then": {"preset": "jpegxl:3"}}]})
    with PostgresServer() as postgres, ExitStack() as stack:
        url = postgres.url.render_as_string(hide_password=False)
        catalog = {"url": url, "connect_seconds": 2, "wait_seconds": 5}
        settings = Settings(**PLAIN, catalog=catalog, tiers={"hot": s3_server.options(kind="s3")})
        archive = stack.enter_context(open_archive(tmp_path / "archive", settings))

        def away(at: str) -> Any:
            def step(name: str) -> None:
                if name == at:
                    postgres.stop(crash=True)

            return step

        for number, content in enumerate(contents):
            path = archive.spool_folder / str(number)
            path.write_bytes(content)
            archive.land(Incoming(path, "TESTER", "import"))
        settler = Settler(
            archive.store, archive.catalog, settings.settle, limit_inflated_bytes=1 << 30, executor=Inline,
            step=away("stored"), host=archive.host,
        )  # fmt: skip
        with pytest.raises(CatalogUnavailable):
            settler.drain()
        postgres.start()
        assert unnamed(archive) == 3

        with archive.catalog.writing() as transaction:
            transaction.release_claims_of(archive.host)
        received = taken_in(archive, contents)
        left = unnamed(archive)  # fewer than three if some came out the same this time, to the second
        clock = Clock()
        with pytest.raises(CatalogUnavailable):
            Lifecycle(archive, policy, now=clock, executor=inline, step=away("recompress: proven")).run()
        postgres.start()
        assert unnamed(archive) > left

        now = datetime.now(UTC)
        sweeper = Sweeper(archive, now)
        assert sweeper.round(now) == 0, "they are young: somebody might be about to name them"
        assert sweeper.round(now + timedelta(hours=23)) == 0
        left = unnamed(archive)
        assert sweeper.round(now + DAY) == left > 0
        assert unnamed(archive) == 0
        assert {one.sop_uid for one in archive.catalog.all_instances()} == set(received)
        is_whole(archive)


def test_a_server_that_runs_for_long_looks_every_day(tmp_path: Path) -> None:
    with open_archive(tmp_path / "archive", Settings(**PLAIN)) as archive:
        taken_in(archive, [data.make_instance(data.Recipe(rows=32, columns=32))])
        sweeper = Sweeper(archive, datetime.now(UTC) + timedelta(minutes=1))
        archive.store.put(b"left by a crash")
        now = datetime.now(UTC)
        assert sweeper.round(now) == 1, "nobody else is at work: it is looked at once"
        for day in (1, 2):
            archive.store.put(b"left by a worker somewhere")
            assert sweeper.round(now + day * DAY - timedelta(hours=2)) == 0
            assert sweeper.round(now + day * DAY) == 1
        is_at_rest(archive, now)


def test_of_two_hosts_one_looks(tmp_path: Path, postgres_url: str) -> None:
    settings = Settings(
        **PLAIN, catalog={"url": postgres_url}, tiers={"hot": {"kind": "local", "url": str(tmp_path / "hot")}}
    )
    with open_archive(tmp_path / "one", settings) as one, open_archive(tmp_path / "two", settings) as two:
        one.store.put(b"left by a crash")
        now = datetime.now(UTC) + timedelta(seconds=1)
        sweepers = Sweeper(one, now), Sweeper(two, now)
        assert [sweeper.round(now + 2 * timedelta(hours=1)) for sweeper in sweepers] == [1, 0]
        one.store.put(b"left by another crash")
        assert [sweeper.round(now + 2 * DAY) for sweeper in reversed(sweepers)] == [1, 0]
