"""A plan made from outlines is the plan that is made when every row is read, on both databases."""

from __future__ import annotations

import random
import tomllib
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, Table, insert

from leanpacs.catalog import Catalog, open_catalog
from leanpacs.catalog.ageing import AgeingView, Outcome, Page, Sums, outlines
from leanpacs.catalog.ageing.tables import lifecycle_work, series_reads
from leanpacs.catalog.engine import Database, database_url
from leanpacs.catalog.schema import blobs, instances, patients, representations, series, studies
from leanpacs.lifecycle.deciding import Decider
from leanpacs.lifecycle.plan import Plan, Step
from leanpacs.lifecycle.planner import Planner
from leanpacs.lifecycle.policy import Policy, shipped
from leanpacs.lifecycle.pricing import Prices
from leanpacs.refs import Digest
from unit.lifecycle.test_deciding import NOW

CT, MR = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.4"
SERIES = 160
RULES: dict[str, list[dict[str, Any]]] = {
    "dense": [{"name": "dense", "when": {"unread_days": 30}, "then": {"preset": "dense"}}],
    "by size and age": [
        {"name": "all", "then": {"preset": "balanced", "newest_dictionary": True}},
        {"name": "large", "when": {"larger_than_bytes": 500_000, "older_than_days": 20}, "then": {"preset": "dense"}},
        {"name": "read", "when": {"read_at_least": 2, "read_within_days": 15}, "then": {"keep_fast": True}},
    ],
    "series packs": [
        {"name": "series", "when": {"older_than_days": 10}, "then": {"pack": "series"}},
        {"name": "MR apart", "when": {"modality": "MR"}, "then": {"pack": "instance"}},
    ],
    "tiers": [
        {"name": "all", "then": {"preset": "fast", "made_since": "2026-05-01"}},
        {"name": "warm", "when": {"unread_days": 25}, "then": {"tier": "warm", "copies": "cold", "pack": "series"}},
    ],
    "end": [
        {"name": "end", "when": {"older_than_days": 35}, "then": {"delete_after_days": 36}},
        {"name": "warm", "when": {"older_than_days": 5}, "then": {"tier": "warm"}},
    ],
    "copies": [
        {"name": "two", "when": {"older_than_days": 30}, "then": {"minimum_copies": 2}},
        {"name": "old", "when": {"older_than_days": 45}, "then": {"tier": "cold", "copies": "warm"}},
        {"name": "lossy", "when": {"modality": "CT"}, "then": {"lossy_copy": {"to": "JPEG2000", "ratio": 9}}},
        {"name": "copies end", "when": {"derived": True}, "then": {"delete_after_days": 36}},
    ],
}
MEASURED = [
    Sums("recompress dense", "r", Outcome.DONE, 100, 10**9, 400_000_000, 300_000_000, 70.0, NOW),
    Sums("recompress balanced", "r", Outcome.DONE, 100, 10**9, 400_000_000, 420_000_000, 70.0, NOW),
    Sums("gather series", "r", Outcome.DONE, 100, 10**9, 400_000_000, 390_000_000, 3.0, NOW),
]


class Made:
    """Rows of a catalog, drawn at random: most series are uniform but for lengths, sizes and times, some are not."""

    def __init__(self, connection: Connection, seed: int) -> None:
        self._draw = random.Random(seed)
        self._rows: dict[Table, list[dict[str, Any]]] = {patients: [{"id": 1, "patient_id": "P"}]}
        self._blobs = self._forms = self._instances = 0
        for number in range(1, SERIES + 1):
            self._series(number)
        for table, rows in self._rows.items():
            names = {name for row in rows for name in row}
            assert all(set(row) == names for row in rows)
            connection.execute(insert(table), rows)

    def _add(self, table: Table, **values: Any) -> None:
        self._rows.setdefault(table, []).append(values)

    def _days_ago(self, most: float) -> Any:
        return NOW - timedelta(days=self._draw.uniform(0, most))

    def _series(self, key: int) -> None:
        draw = self._draw
        study = 1 + (key - 1) // 2
        if key % 2:
            self._add(studies, id=study, patient_key=1, study_uid=f"1.{study}", received_at=NOW)
        modality = draw.choice(["CT", "MR", "US"])
        self._add(series, id=key, study_key=study, series_uid=f"1.{study}.{key}", modality=modality, received_at=NOW)
        if draw.random() < 0.2:
            self._add(series_reads, series_key=key, last_read_at=self._days_ago(40), reads=draw.randrange(4))
        age, length = draw.uniform(0, 60), draw.randrange(100_000, 900_000)
        facts: dict[str, Any] = {
            "sop_class": draw.choice([CT, MR]),
            "transfer_syntax": "1.2.840.10008.1.2.1",
            "sender": draw.choice(["A", "B"]),
            "door": draw.choice(["dimse", "stow", "derived"]),
        }
        form: dict[str, Any] = {
            "kind": "landed" if draw.random() < 0.05 else "pack",
            "form": draw.choice(["frames", "frames", "whole"]),
            "evidence_preset": draw.choice(["fast", "fast", "balanced", "dense", ""]),
            "dictionary_id": draw.choice([None, 7, 8]),
            "tier": draw.choice(["hot", "hot", "warm"]),
        }
        shared = draw.random() < 0.15
        spread = draw.random() < 0.7
        number = draw.choice([1, 2, 3, 7])
        pack = self._blob(form["tier"], 100_000 * number) if shared else None
        for _ in range(number):
            if draw.random() < 0.04:  # one that is not as the others
                other = draw.choice(["sop_class", "sender", "door", "evidence_preset", "kind", "dictionary_id", "tier"])
                (facts if other in facts else form)[other] = {"kind": "landed", "dictionary_id": 9}.get(other, "other")
            days = timedelta(days=age + (draw.uniform(0, 3) if spread else 0))
            self._instance(key, facts, form, NOW - days, length + (draw.randrange(9000) if spread else 0), pack)

    def _instance(
        self, key: int, facts: dict[str, Any], form: dict[str, Any], at: Any, length: int, pack: int | None
    ) -> None:
        draw = self._draw
        self._instances += 1
        digest = Digest.of(b"%d" % self._instances)
        uid = f"1.9.{self._instances}"
        self._add(
            instances, id=self._instances, series_key=key, sop_uid=uid, instance_number=self._instances % 3,
            data_set_length=length, data_set_digest=digest, received_at=at, **facts,
        )  # fmt: skip
        for _ in range(2 if draw.random() < 0.02 else 1):
            size = length // 4 + draw.randrange(2000)
            blob = pack if pack is not None else self._blob(form["tier"], size)
            self._forms += 1
            self._add(
                representations, id=self._forms, instance_key=self._instances, blob_key=blob, fidelity="bytes",
                codec="jpegxl", frames_index=b"", raw_frame_bytes=length - 1000, created_at=at,
                size_bytes=100_000 - draw.randrange(30_000) if pack is not None else size,
                **{name: value for name, value in form.items() if name != "tier"},
            )  # fmt: skip
        if draw.random() < 0.02:
            outcome, until = draw.choice([("", 1), ("kept", 9), ("failed", -1)])
            self._add(
                lifecycle_work, instance_key=self._instances, goal="place warm", owner="x", attempts=1,
                claimed_until=NOW + timedelta(days=until), outcome=outcome, detail="",
            )  # fmt: skip

    def _blob(self, tier: str, size: int) -> int:
        self._blobs += 1
        digest = Digest.of(b"b%d" % self._blobs)
        self._add(blobs, id=self._blobs, digest=digest, tier=tier, size_bytes=size, created_at=NOW)
        return self._blobs


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "postgresql":
        return str(request.getfixturevalue("postgres_url"))
    return str(tmp_path / "catalog.sqlite")


@pytest.fixture
def catalog(place: str) -> Iterator[Catalog]:
    with closing(open_catalog(place)) as opened:
        with closing(Database(database_url(place))) as database, database.writing() as connection:
            Made(connection, seed=11)
        yield opened


def policies() -> dict[str, Policy]:
    ours = {name: Policy.model_validate({"name": name, "rules": rules}) for name, rules in RULES.items()}
    return ours | {name: Policy.model_validate(tomllib.loads(text)) for name, text in shipped().items()}


def from_rows(planner: Planner, view: AgeingView, limit: int) -> Plan:
    return planner.plan([Page([], [])], lambda _: view.all_series(), limit)


@pytest.mark.parametrize("least", [1, 100], ids=["one by one", "together"])
def test_plans_from_outlines_are_those_from_rows(catalog: Catalog, monkeypatch: pytest.MonkeyPatch, least: int) -> None:
    monkeypatch.setattr(outlines, "PAGE_SERIES", 50)
    monkeypatch.setattr(outlines, "LEAST_INSTANCES", least)
    view = catalog.ageing
    seen: set[Step] = set()
    for policy in policies().values():
        for ahead, prices in ((0, Prices()), (40, Prices(MEASURED))):
            now = NOW + timedelta(days=ahead)
            planner = Planner(
                Decider(policy, now),
                prices,
                now,
                dictionaries={CT: 8},
                held_studies=frozenset({"1.3", "1.30"}),
                tier_copies={"warm": ("cold",)},
                moves=bool(policy.tiers),
            )
            for limit in (20, 5000):
                plan = planner.plan(view.outlines(), view.read, limit, view.promising)
                plain = from_rows(planner, view, limit)
                assert plan.tasks == plain.tasks
                assert plan.instances == plain.instances
                assert plan.short == plain.short
                for ours, theirs in zip(plan.totals, plain.totals, strict=True):
                    same = ("name", "rule", "tasks", "instances", "raw_bytes")
                    assert [getattr(ours, name) for name in same] == [getattr(theirs, name) for name in same]
                    assert ours.saved_bytes == pytest.approx(theirs.saved_bytes, abs=ours.instances)
                    assert ours.seconds == pytest.approx(theirs.seconds, rel=1e-3)
            seen |= {task.step for task in plan.tasks}
    assert seen == set(Step) - {Step.RETRAIN}


@pytest.mark.parametrize("least", [1, 100], ids=["one by one", "together"])
def test_most_series_are_not_read(catalog: Catalog, monkeypatch: pytest.MonkeyPatch, least: int) -> None:
    monkeypatch.setattr(outlines, "LEAST_INSTANCES", least)
    pages = list(catalog.ageing.outlines())
    outlined = [key for page in pages for outline in page.outlines for key in outline.series]
    assert len(outlined) > 0.5 * SERIES
    assert sorted([*outlined, *(key for page in pages for key in page.others)]) == list(range(1, SERIES + 1))
