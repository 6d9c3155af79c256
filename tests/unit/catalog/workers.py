"""What tests run in processes of their own; importable by name, which test modules are not."""

from __future__ import annotations

import itertools
import os
import signal
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext
from pathlib import Path

from leanpacs.catalog import Catalog, open_catalog
from leanpacs.catalog.migrations import current_revision
from unit.catalog.recipes import NOW, land, later, make_index, make_landing, make_pack

EACH = 50


def fresh_processes() -> ForkServerContext:
    """Processes that share nothing with this one, and that need not import everything anew."""
    context = get_context("forkserver")
    context.set_forkserver_preload(["leanpacs.catalog", "alembic.command"])
    return context


def open_and_tell(path: Path) -> str | None:
    """Revision of a catalog that this process opens."""
    catalog = open_catalog(path)
    with catalog._database.reading() as connection:
        revision = current_revision(connection)
    catalog.close()
    return revision


def land_many(path: Path, writer: int) -> int:
    """Land `EACH` instances, one by one."""
    catalog = open_catalog(path)
    for n in range(EACH):
        land(catalog, make_index(n % 3, writer, n, patient_id="A", patient_name="Doe", modality="CT"))
    catalog.close()
    return writer


def settle_all(path: Path, owner: str) -> list[str]:
    """Claim and settle until nothing is left; what this process settled."""
    catalog = open_catalog(path)
    done: list[str] = []
    while claimed := settle_some(catalog, owner, 2, 600):
        done.extend(claimed)
    catalog.close()
    return done


def settle_some(catalog: Catalog, owner: str, number: int, lease_seconds: float) -> list[str]:
    """Claim and settle a few; their UIDs."""
    with catalog.writing() as tx:
        claimed = tx.claim_landed(owner, limit_count=number, limit_bytes=1 << 30, lease_seconds=lease_seconds, now=NOW)
    for work in claimed:
        pack = make_pack(work.instance.sop_uid)
        with catalog.writing() as tx:
            assert tx.settle(work.instance.id, work.representation.id, pack, now=later(1), due_at=later(2))
    return [work.instance.sop_uid for work in claimed]


def die_in_a_transaction(path: Path) -> None:
    """Land one instance, and be killed in the middle of doing a lot more."""
    catalog = open_catalog(path)
    land(catalog, make_index(1, 1, 1))
    with catalog.writing() as tx:
        tx.land(make_index(1, 1, 2), make_landing(make_index(1, 1, 2)))
        tx.delete(sop_uid="1.2.3.1.1.1", actor="a", reason="b", now=NOW)
        blob = make_landing(make_index(3)).blob
        tx.quarantine(blob, name="", sender="", door="", reason="", now=NOW)
        os.kill(os.getpid(), signal.SIGKILL)


def work_until_killed(path: Path, first: int, acknowledge: Connection) -> None:
    """Land, settle and sweep for ever; the number of each instance that has landed goes to ``acknowledge``."""
    catalog = open_catalog(path)
    for n in itertools.count(first):
        land(catalog, make_index(n % 5, 1, n, patient_name=f"Doe^{n}"))
        acknowledge.send(n)
        settle_some(catalog, "me", 1, 0)
        if n % 4 == 0:
            with catalog.writing() as tx:
                tx.forget_garbage(tx.collect_garbage(later(100), 3))
