"""Whatever is done in whatever order: the catalog holds what a simple model says, and sweeps nothing that is used."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule

from leanpacs.catalog import Catalog, DuplicateInstance, LandedWork, Query, open_catalog
from leanpacs.errors import InstanceNotFound
from leanpacs.refs import BlobRef
from unit.catalog.recipes import later, make_blob, make_index, make_landing, make_pack

PLACES = st.sampled_from([(1, 1, 1), (1, 1, 2), (1, 2, 1), (2, 1, 1)])
"""Few instances, so that they often meet: numbers of study, series and instance."""
TAGS = st.sampled_from(["", "other bytes"])


class CatalogMachine(RuleBasedStateMachine):
    """The model: which blob each instance is held in, and which blobs the stores hold."""

    work = Bundle("work")
    catalog: Catalog

    @initialize()
    def begin(self) -> None:
        self.catalog = open_catalog(":memory:")
        self.held: dict[str, BlobRef] = {}
        self.quarantined: dict[int, BlobRef] = {}
        self.stored: set[BlobRef] = set()
        self.now = 0.0

    def teardown(self) -> None:
        if hasattr(self, "catalog"):
            self.catalog.close()

    @rule(place=PLACES, tag=TAGS)
    def land(self, place: tuple[int, int, int], tag: str) -> None:
        index = make_index(*place, patient_id=str(place[0]))
        landing = make_landing(index, tag=tag, at=later(self.now))
        self.stored.add(landing.blob)
        with self.catalog.writing() as tx:
            if index.sop_uid in self.held:
                with pytest.raises(DuplicateInstance):
                    tx.land(index, landing)
                tx.discard(landing.blob, now=later(self.now), due_at=later(self.now + 5))
            else:
                tx.land(index, landing)
                self.held[index.sop_uid] = landing.blob

    @rule(place=PLACES, tag=TAGS)
    def replace(self, place: tuple[int, int, int], tag: str) -> None:
        index = make_index(*place)
        landing = make_landing(index, tag=tag, at=later(self.now))
        if index.sop_uid in self.held:
            self.stored.add(landing.blob)
            with self.catalog.writing() as tx:
                tx.replace_instance(index, landing, actor="a", reason="b", due_at=later(self.now + 5))
            self.held[index.sop_uid] = landing.blob

    @rule(target=work, lease=st.sampled_from([0.0, 10.0]))
    def claim(self, lease: float) -> list[LandedWork]:
        with self.catalog.writing() as tx:
            claimed = tx.claim_landed(
                "owner", limit_count=2, limit_bytes=1500, lease_seconds=lease, now=later(self.now)
            )
        assert all(self.held[one.instance.sop_uid] == one.representation.blob for one in claimed)
        return claimed

    @rule(claimed=work, shared=st.booleans())
    def settle(self, claimed: list[LandedWork], shared: bool) -> None:
        for one in claimed:
            pack = make_pack("shared" if shared else one.instance.sop_uid)
            self.stored.add(pack.blob)
            uid = one.instance.sop_uid
            current = [row.id for row in self.catalog.representations(one.instance.id)]
            with self.catalog.writing() as tx:
                ids = one.instance.id, one.representation.id
                settled = tx.settle(*ids, pack, now=later(self.now), due_at=later(self.now + 5))
            assert settled == (one.representation.id in current)
            if settled:
                self.held[uid] = pack.blob

    @rule(place=PLACES, level=st.sampled_from(["study_uid", "series_uid", "sop_uid"]))
    def delete(self, place: tuple[int, int, int], level: str) -> None:
        prefix = getattr(make_index(*place), level)
        gone = [uid for uid in self.held if f"{uid}.".startswith(f"{prefix}.")]
        with self.catalog.writing() as tx:
            why = {"actor": "a", "reason": "b", "now": later(self.now), "grace_seconds": 5}
            if not gone:
                with pytest.raises(InstanceNotFound):
                    tx.delete(**{level: prefix}, **why)
                return
            assert tx.delete(**{level: prefix}, **why).instances == len(gone)
        for uid in gone:
            del self.held[uid]
            assert self.catalog.tombstone(uid) is not None

    @rule(number=st.integers(1, 2))
    def quarantine(self, number: int) -> None:
        blob = make_blob("junk", number)
        self.stored.add(blob)
        with self.catalog.writing() as tx:
            key = tx.quarantine(blob, name="n", sender="", door="import", reason="?", now=later(self.now))
        self.quarantined[key] = blob

    @rule()
    def release(self) -> None:
        with self.catalog.writing() as tx:
            for key in self.quarantined:
                tx.release_quarantine(key, due_at=later(self.now))
        self.quarantined.clear()

    @rule(seconds=st.sampled_from([1.0, 10.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule(limit=st.integers(1, 5), forgets=st.booleans())
    def sweep(self, limit: int, forgets: bool) -> None:
        with self.catalog.writing() as tx:
            swept = tx.collect_garbage(later(self.now), limit)
            self.stored.difference_update(swept)
            if forgets:
                tx.forget_garbage(swept)

    @invariant()
    def what_is_held_is_stored(self) -> None:
        if not hasattr(self, "catalog"):
            return
        rows = list(self.catalog.all_instances())
        found = {row.sop_uid: self.catalog.blobs_of(row.id) for row in rows}
        assert found == {uid: [blob] for uid, blob in self.held.items()}
        assert {row.id: row.blob for row in self.catalog.quarantined()} == self.quarantined
        assert {*self.held.values(), *self.quarantined.values()} <= self.stored
        # nothing is in a store that the catalog does not know of
        assert self.stored <= set(self.catalog.all_blob_refs())
        studies = self.catalog.find_studies(Query("study"))
        assert sum(study.number_of_instances for study in studies) == len(self.held)
        assert all(study.number_of_instances for study in studies)


TestCatalogMachine = CatalogMachine.TestCase
TestCatalogMachine.settings = settings(max_examples=20, stateful_step_count=30, deadline=None)
