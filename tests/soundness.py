"""What must hold of an archive whatever was killed or taken away: the invariants of the design, seen from outside."""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

from ageing import inline
from leanpacs.archive.archive import Archive
from leanpacs.archive.care.verify import verify
from leanpacs.catalog import InstanceRow, Kind, RepresentationRow
from leanpacs.catalog.ageing import Outcome
from leanpacs.errors import BeingRestored
from leanpacs.lifecycle.policy import Policy
from leanpacs.lifecycle.runner import Lifecycle

PATIENCE_SECONDS = 60.0
MOST_ROUNDS = 30


def given(archive: Archive, instance: InstanceRow) -> bytes:
    """The file as it was received; what sleeps in an archive class is asked for and waited for."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            return b"".join(archive.retriever.as_received(instance).chunks)
        except BeingRestored as asleep:
            assert time.monotonic() < deadline, "it is not restored"
            time.sleep(min(wake(archive, asleep), 1.0) + 0.01)


def wake(archive: Archive, asleep: BeingRestored) -> float:
    """Ask for a blob of an archive class; the seconds it takes."""
    (store,) = (store for store in archive.stores if store.tier == asleep.tier)
    (blob,) = {
        ref for ref in archive.catalog.all_blob_refs() if ref.digest.hex == asleep.digest and ref.tier == store.tier
    }
    return store.restore(blob.digest)


def holds_all(
    archive: Archive, acknowledged: Mapping[str, bytes], mortal: frozenset[str] | set[str] = frozenset()
) -> None:
    """Every acknowledged instance is given back as it was sent; one of ``mortal`` may have a tombstone instead.

    ``acknowledged`` has the SHA-256 of each file, by SOP Instance UID.
    """
    held = {row.sop_uid: row for row in archive.catalog.all_instances()}
    for uid in acknowledged.keys() - held.keys():
        assert uid in mortal, f"{uid} was acknowledged and is gone"
        assert archive.catalog.tombstone(uid) is not None, f"{uid} has gone without a tombstone"
    for uid, digest in acknowledged.items():
        if uid in held:
            assert hashlib.sha256(given(archive, held[uid])).digest() == digest, uid


def is_consistent(archive: Archive) -> int:
    """Nothing that is named is missing, nothing stands twice, all has its evidence; the number of forms."""
    count = 0
    for instance in archive.catalog.all_instances():
        forms = archive.catalog.representations(instance.id)
        assert forms, f"{instance.sop_uid} has no stored form"
        assert len({form.blob for form in forms}) == len(forms), f"{instance.sop_uid} is named twice in one blob"
        kinds = Counter(form.kind for form in forms)
        assert kinds[Kind.LANDED] <= 1
        assert not (kinds[Kind.LANDED] and kinds[Kind.PACK]), f"{instance.sop_uid} has settled and has its landed form"
        _has_no_double(instance, forms)
        for form in forms:
            _is_proven(archive, instance, form)
        count += len(forms)
    return count


def _has_no_double(instance: InstanceRow, forms: Sequence[RepresentationRow]) -> None:
    """On each tier one small form and one fast one; and what a copy elsewhere was remade from, until it is dropped."""
    for tier in {form.blob.tier for form in forms}:
        packs = [form for form in forms if form.blob.tier == tier and form.kind is Kind.PACK]
        fast = [form for form in packs if form.evidence.preset == "fast" and form.size_bytes == form.blob.size_bytes]
        assert len(fast) <= 1, f"{instance.sop_uid} has two fast forms on {tier}: {forms}"
        assert len(packs) - len(fast) <= 2, f"{instance.sop_uid} has too many forms on {tier}: {forms}"


def _is_proven(archive: Archive, instance: InstanceRow, form: RepresentationRow) -> None:
    assert archive.stores.at(form.blob.tier).exists(form.blob.digest), f"{form.blob} is named and missing"
    if form.kind is Kind.PACK:
        assert form.evidence.data_set_digest == instance.data_set_digest
        assert form.evidence.decoder


def is_whole(archive: Archive) -> None:
    """Every stored form, on every tier, is read, decoded and compared; what sleeps is woken first."""
    longest = 0.0
    for ref in archive.catalog.all_blob_refs():
        longest = max(longest, archive.stores.at(ref.tier).restore(ref.digest))
    time.sleep(longest)
    names = tuple(archive.store.kept_names())
    problems = [verify(archive.stores, names, check).problem for check in archive.verifier().checks(100)]
    assert [problem for problem in problems if problem] == []


def settle_all(archive: Archive) -> None:
    """Settle what has landed; what failed while something was away has a time before which nobody tries again."""
    deadline = time.monotonic() + 2 * PATIENCE_SECONDS
    while archive.catalog.backlog().count:
        assert time.monotonic() < deadline, "it does not settle"
        archive.settler().drain()
        time.sleep(0.5)


def come_to_rest(archive: Archive, policy: Policy, days: float) -> Counter[tuple[str, str]]:
    """Do all that the policy wants when so many days have passed; nothing fails, and then nothing is left to do."""
    outcomes: Counter[tuple[str, str]] = Counter()
    begin = datetime.now(UTC) + timedelta(days=days)
    for number in range(MOST_ROUNDS):
        now = begin + timedelta(hours=number)
        lifecycle = Lifecycle(archive, policy, now=lambda now=now: now, executor=inline)
        report = lifecycle.run()
        outcomes.update(report.outcomes)
        assert report.failed == 0, archive.catalog.ageing.problems()
        if not report.outcomes and not lifecycle.plan().tasks:
            return outcomes
        settle_all(archive)  # lossy copies land as what is received does
        if any(outcome == Outcome.WAITING for _, outcome in report.outcomes):
            time.sleep(0.5)
    raise AssertionError(f"the work does not end: {outcomes}")


def is_at_rest(archive: Archive, now: datetime, most_forms: int = 1) -> int:
    """No claim is left, no instance has more than so many forms, and after sweeping there is no blob without a name.

    Returns
    -------
    int
        Orphans that the sweep has found.
    """
    series = sorted({instance.series_id for instance in archive.catalog.all_instances()})
    claims = [one for _, trials in archive.catalog.ageing.read(series) for of in trials.values() for one in of.values()]
    assert not [one for one in claims if not one.outcome], "claims are left"
    assert archive.catalog.backlog().count == 0
    for instance in archive.catalog.all_instances():
        forms = archive.catalog.representations(instance.id)
        assert len({form.blob.digest for form in forms}) <= most_forms, f"{instance.sop_uid} is held twice: {forms}"
    deleter = archive.deleter()
    deleter.sweep(now)
    orphans = deleter.sweep_orphans(now)
    for store in archive.stores:
        named = {ref.digest for ref in archive.catalog.all_blob_refs() if ref.tier == store.tier}
        assert {stat.digest for stat in store.list()} == named, f"tier {store.tier}"
    assert [path for name in ("tmp", "spool") for path in (archive.store.spool_folder().parent / name).glob("*")] == []
    return orphans
