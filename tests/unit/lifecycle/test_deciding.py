"""What rules want, alone and together."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leanpacs.catalog.ageing import Held
from leanpacs.errors import ConfigError
from leanpacs.lifecycle.deciding import Decider
from leanpacs.lifecycle.policy import Policy, load_policy, shipped

NOW = datetime(2026, 6, 1, tzinfo=UTC)


def held(*, age: float = 0.0, unread: float | None = None, reads: int = 0, **facts: Any) -> Held:
    """An instance of an age in days; ``unread`` days since its series was read last."""
    ago = {days: int((NOW - timedelta(days=days)).timestamp() * 1e6) for days in (age, unread or 0.0)}
    values: dict[str, Any] = {
        "instance_id": 1,
        "series_id": 1,
        "study_uid": "1.2",
        "series_uid": "1.2.3",
        "modality": "CT",
        "body_part": "CHEST",
        "institution": "",
        "sop_class": "1.2.840.10008.5.1.4.1.1.2",
        "transfer_syntax": "1.2.840.10008.1.2.1",
        "source": "CT1",
        "door": "dimse",
        "received_at": ago[age],
        "length": 500_000,
        "last_read_at": 0 if unread is None else ago[unread],
        "reads": reads,
        "forms": (),
    }
    return Held(**{**values, **facts})


def wanted(rules: list[dict[str, Any]], one: Held) -> Any:
    """What rules want of an instance."""
    return Decider(Policy.model_validate({"name": "x", "rules": rules}), NOW).wanted(one)


@pytest.mark.parametrize(
    ("when", "one", "holds"),
    [
        ({}, held(), True),
        ({"modality": "CT"}, held(), True),
        ({"modality": ["MR", "c*"]}, held(), True),
        ({"modality": "MR"}, held(), False),
        ({"source": "CT?"}, held(), True),
        ({"body_part": "chest"}, held(), True),
        ({"institution": "*clinic*"}, held(institution="The Clinic"), True),
        ({"larger_than_bytes": 500_000}, held(), True),
        ({"larger_than_bytes": 500_001}, held(), False),
        ({"smaller_than_bytes": 500_000}, held(), False),
        ({"older_than_days": 30}, held(age=30), True),
        ({"older_than_days": 30}, held(age=29.9), False),
        ({"unread_days": 30}, held(age=31), True),
        ({"unread_days": 30}, held(age=31, unread=2, reads=1), False),
        ({"unread_days": 30}, held(age=99, unread=30, reads=1), True),
        ({"read_within_days": 7}, held(age=99, unread=7, reads=1), True),
        ({"read_within_days": 7}, held(age=1), False),
        ({"read_at_least": 3}, held(unread=1, reads=3), True),
        ({"read_at_most": 2}, held(unread=1, reads=3), False),
        ({"modality": "CT", "older_than_days": 1}, held(), False),
    ],
)
def test_conditions(when: dict[str, Any], one: Held, holds: bool) -> None:
    assert (wanted([{"name": "a", "when": when, "then": {"preset": "dense"}}], one).preset == "dense") is holds


def test_later_rules_stand_above_earlier_ones_and_some_things_only_grow() -> None:
    rules = [
        {"name": "one", "then": {"preset": "dense", "tier": "warm", "keep_days": 900, "minimum_copies": 2}},
        {"name": "two", "then": {"preset": "balanced", "keep_days": 10, "minimum_copies": 1}},
        {"name": "three", "when": {"modality": "MG"}, "then": {"tier": "cold"}},
    ]
    found = wanted(rules, held())
    assert (found.preset, found.tier, found.keep_days, found.minimum_copies) == ("balanced", "warm", 900, 2)
    assert found.because == {"preset": "two", "tier": "one", "keep_days": "one", "minimum_copies": "one"}
    assert wanted(rules, held(modality="MG")).tier == "cold"


def test_nothing_is_deleted_before_it_need_not_be_kept() -> None:
    rules = [
        {"name": "out", "then": {"delete_after_days": 100}},
        {"name": "keep", "when": {"modality": "CT"}, "then": {"keep_days": 365}},
    ]
    assert not wanted(rules, held()).is_due_for_deletion(364)
    assert wanted(rules, held()).is_due_for_deletion(365)
    assert wanted(rules, held(modality="MR")).is_due_for_deletion(100)


@given(age=st.floats(0, 40_000), reads=st.integers(0, 100), modality=st.sampled_from(["CT", "MG", "SM", ""]))
def test_policies_that_come_along_lose_nothing(age: float, reads: int, modality: str) -> None:
    for name in shipped():
        one = Decider(load_policy(name), NOW).wanted(held(age=age, unread=age / 2, reads=reads, modality=modality))
        assert one.fidelity == "bytes"
        assert one.delete_after_days is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name = 'x'", "rules"),
        ("name = 'x'\nrules = []", "there is none"),
        ("[[rules]]", "name"),
        ("name = 'x'\n[[rules]]\nname = 'a'\n[rules.then]\n", "wants nothing"),
        (
            "name = 'x'\n[[rules]]\nname='a'\n[rules.then]\ntier='hot'\n[[rules]]\nname='a'\n[rules.then]\ntier='x'",
            "more",
        ),
        ("name = 'x'\n[[rules]]\nname='a'\n[rules.then]\npreset='jpegxl:99'", "efforts from 1 to 10"),
        ("name = 'x'\n[[rules]]\nname='a'\n[rules.when]\nolder_than_days=-1\n[rules.then]\ntier='hot'", "greater"),
        ("name = ", "not TOML"),
    ],
)
def test_faults_are_named(tmp_path: Any, text: str, said: str) -> None:
    path = tmp_path / "policy.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=said):
        load_policy(path)
