"""Plans from facts: the next step of each instance, the best first, and no more than asked for."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from leanpacs.catalog.ageing import Form, Held, Outcome, Page, Sums, Tried
from leanpacs.lifecycle.deciding import Decider
from leanpacs.lifecycle.plan import Plan, Step
from leanpacs.lifecycle.planner import Planner
from leanpacs.lifecycle.policy import Policy
from leanpacs.lifecycle.pricing import Prices
from unit.lifecycle.test_deciding import NOW, held


def form(number: int, *, size: int = 100_000, preset: str = "fast", tier: str = "hot", **facts: Any) -> Form:
    """A pack."""
    values: dict[str, Any] = {
        "id": number,
        "kind": "pack",
        "form": "frames",
        "codec": "jpegxl",
        "fidelity": "bytes",
        "preset": preset,
        "made_at": 0,
        "size_bytes": size,
        "raw_frame_bytes": 400_000,
        "dictionary_id": 0,
        "tier": tier,
        "sha256": number.to_bytes(32, "big"),
        "blob_bytes": size,
    }
    return Form(**{**values, **facts})


def planned(rules: list[dict[str, Any]], *all_series: list[Held], limit: int = 100, **options: Any) -> Plan:
    """The plan for some series."""
    decider = Decider(Policy.model_validate({"name": "x", "rules": rules}), NOW)
    tried = options.pop("tried", {})
    planner = Planner(decider, options.pop("prices", Prices()), NOW, **options)
    return planner.plan([Page([], [1])], lambda _: [(one, tried) for one in all_series], limit)


def steps(plan: Plan) -> list[tuple[Step, str]]:
    """Steps and targets of a plan."""
    return [(task.step, task.target) for task in plan.tasks]


DENSE = [{"name": "dense", "then": {"preset": "dense"}}]


def test_what_has_landed_only_and_what_is_as_wanted_need_nothing() -> None:
    assert planned(DENSE, [held(forms=(form(1, preset="dense"),))]).tasks == ()
    assert planned(DENSE, [held(forms=(form(1, kind="landed"),))]).tasks == ()
    assert planned([{"name": "fast", "then": {"preset": "fast"}}], [held(forms=(form(1, preset="dense"),))]).tasks == ()


def test_the_best_come_first_and_the_totals_tell_of_all() -> None:
    series = [held(instance_id=n, forms=(form(n, size=n * 100_000),)) for n in range(1, 11)]
    plan = planned(DENSE, series, limit=3)
    assert [task.first.instance_id for task in plan.tasks] == [10, 9, 8]
    assert not plan.is_complete
    (total,) = plan.totals
    assert (total.name, total.rule, total.tasks, total.raw_bytes) == ("recompress dense", "dense", 10, 5_000_000)
    assert planned(DENSE, series).is_complete


def test_prices_are_measured_once_enough_was_done() -> None:
    task = "recompress dense"
    done = Sums(task, "a", Outcome.DONE, 100, 10**9, 400 * 10**6, 300 * 10**6, 50.0, NOW)
    failed = Sums(task, "a", Outcome.FAILED, 100, 10**9, 0, 0, 9999.0, NOW)
    plan = planned(DENSE, [held(length=10**8, forms=(form(1, size=10**7),))], prices=Prices([done, failed]))
    assert round(plan.tasks[0].seconds, 2) == round(0.005 + 5.0, 2)
    assert plan.tasks[0].saved_bytes == 2_500_000


def test_what_was_tried_is_left_until_its_time_has_come() -> None:
    one = held(forms=(form(1),))
    (task,) = planned(DENSE, [one]).tasks
    later, earlier = NOW + timedelta(days=1), NOW - timedelta(days=1)
    assert planned(DENSE, [one], tried={1: {task.goal: Tried("failed", later)}}).tasks == ()
    assert len(planned(DENSE, [one], tried={1: {task.goal: Tried("failed", earlier)}}).tasks) == 1
    rules = [{"name": "dense", "then": {"preset": "dense", "tier": "warm"}}]
    (task,) = planned(rules, [one]).tasks
    assert task.step is Step.RECOMPRESS
    assert steps(planned(rules, [one], tried={1: {task.goal: Tried("kept", later)}})) == [(Step.PLACE, "warm")]
    assert planned(rules, [one], tried={1: {task.goal: Tried("", later)}}).tasks == ()


def test_a_fast_form_is_kept_made_and_dropped() -> None:
    keep = [{"name": "keep", "then": {"preset": "dense", "keep_fast": True}}]
    small = form(2, size=50_000, preset="dense", tier="warm")
    rules = [{"name": "keep", "then": {"preset": "dense", "keep_fast": True, "tier": "warm"}}]
    assert steps(planned(rules, [held(forms=(small,))])) == [(Step.WARM, "fast")]
    assert steps(planned(rules, [held(forms=(form(1), small))])) == []
    assert steps(planned(keep, [held(forms=(form(1), small._replace(tier="hot")))])) == []
    (task,) = planned(DENSE, [held(forms=(form(1), small._replace(tier="hot")))]).tasks
    assert (task.step, task.members[0][1].id) == (Step.DROP, 1)
    (task,) = planned(keep, [held(forms=(small._replace(tier="hot"), form(3), form(4)))]).tasks
    assert (task.step, task.members[0][1].id) == (Step.DROP, 3)


def test_series_are_gathered_when_all_of_them_are_ready() -> None:
    rules = [{"name": "series", "then": {"pack": "series"}}]
    series = [held(instance_id=n, forms=(form(n),)) for n in range(1, 4)]
    (task,) = planned(rules, series).tasks
    assert (task.step, len(task.members)) == (Step.GATHER, 3)
    assert planned(rules, series[:1]).tasks == ()
    landed = held(instance_id=9, forms=(form(9, kind="landed"),))
    assert planned(rules, [*series, landed]).tasks == ()
    shared = [one._replace(forms=(form(7, size=90_000, blob_bytes=270_000),)) for one in series]
    assert planned(rules, shared).tasks == ()
    assert steps(planned([{"name": "apart", "then": {"pack": "instance"}}], shared)) == [(Step.SEPARATE, "")] * 3
    wasteful = [shared[0], series[1]]
    assert (Step.SEPARATE, "") in steps(planned(rules, wasteful))


def test_studies_expire_whole_and_never_under_a_hold() -> None:
    rules = [{"name": "out", "then": {"delete_after_days": 100}}]
    old = [held(instance_id=n, age=200, forms=(form(n),)) for n in (1, 2)]
    assert steps(planned(rules, old)) == [(Step.EXPIRE, "")]
    assert steps(planned(rules, old, old)) == [(Step.EXPIRE, "")]
    assert planned(rules, [*old, held(instance_id=3, age=99, forms=(form(3),))]).tasks == ()
    assert planned(rules, old, held_studies=frozenset({"1.2"})).tasks == ()


def test_blobs_go_to_their_tiers_and_those_of_their_copies() -> None:
    rules = [{"name": "cold", "then": {"tier": "cold", "copies": ["warm"]}}]
    one = held(forms=(form(1),))
    assert steps(planned(rules, [one])) == [(Step.PLACE, "cold+warm")]
    there = held(forms=(form(1, tier="cold"), form(2, tier="warm", sha256=form(1).sha256)))
    assert planned(rules, [there]).tasks == ()
    assert steps(planned([{"name": "c", "then": {"tier": "cold"}}], [one], tier_copies={"cold": ("far",)})) == [
        (Step.PLACE, "cold+far")
    ]


def test_a_policy_that_names_no_tier_moves_nothing() -> None:
    rules = [{"name": "arrival", "then": {"preset": "fast"}}]
    moved = held(forms=(form(1, tier="cold"),))
    assert planned(rules, [moved], moves=False).tasks == ()
    assert steps(planned(rules, [moved])) == [(Step.PLACE, "hot")]
    assert steps(planned(rules, [moved], moves=False, tier_copies={"cold": ("far",)})) == [(Step.PLACE, "cold+far")]


def test_what_was_brought_back_for_readers_stays_for_them() -> None:
    rules = [{"name": "cold", "then": {"tier": "cold"}}]
    back = held(forms=(form(1, tier="cold"), form(2, sha256=form(1).sha256)))
    assert planned(rules, [back], restored=frozenset({form(1).sha256})).tasks == ()
    assert steps(planned(rules, [back])) == [(Step.PLACE, "cold")]


@given(
    sizes=st.lists(st.integers(1, 10**9), max_size=60),
    limit=st.integers(1, 20),
)
def test_a_plan_is_bounded_and_in_order(sizes: list[int], limit: int) -> None:
    series = [held(instance_id=n, forms=(form(n, size=size),)) for n, size in enumerate(sizes, 1)]
    plan = planned(DENSE, series, limit=limit)
    assert len(plan.tasks) == min(limit, len(sizes))
    scores = [task.score for task in plan.tasks]
    assert scores == sorted(scores, reverse=True)
    assert sum(total.tasks for total in plan.totals) == len(sizes)


def test_no_form_goes_and_nothing_moves_below_the_copies_that_are_wanted() -> None:
    two = {"name": "two", "then": {"minimum_copies": 2}}
    cold = [{"name": "cold", "then": {"tier": "cold", "copies": "warm"}}, two]
    old_copies = (
        form(1, size=50, tier="hot", preset="dense"),
        form(2, size=90, tier="warm"),
    )
    # The old form on the warm tier is the second copy until the new one stands on two tiers.
    placed = planned(cold, [held(forms=old_copies)])
    assert steps(placed) == [(Step.PLACE, "cold+warm")]
    moved = (form(1, size=50, tier="cold"), form(3, size=50, tier="warm", sha256=form(1).sha256), form(2, tier="warm"))
    assert steps(planned(cold, [held(forms=moved)])) == [(Step.DROP, "")]
    # The hot copy stays where the rules name too few tiers, and that is said.
    one_tier = [{"name": "cold", "then": {"tier": "cold"}}, two]
    plan = planned(one_tier, [held(forms=(form(1),))])
    assert (steps(plan), plan.short) == ([(Step.PLACE, "cold+hot")], {})
    plan = planned([{"name": "hot", "then": {"tier": "hot"}}, two], [held(forms=(form(1),))])
    assert (steps(plan), plan.short) == ([], {"two": 1})


def test_a_lossy_copy_is_planned_once_and_never_of_a_copy() -> None:
    rules = [{"name": "small", "then": {"lossy_copy": {"to": "JPEGXL", "distance": 1}}}]
    (task,) = planned(rules, [held(forms=(form(1),))]).tasks
    assert (task.step, task.goal, task.rule) == (Step.DERIVE, "derive JPEGXL distance=1", "small")
    assert task.saved_bytes < 0
    later = NOW + timedelta(days=36_500)
    done = {1: {task.goal: Tried("done", later)}}
    assert planned(rules, [held(forms=(form(1),))], tried=done).tasks == ()
    assert planned(rules, [held(forms=(form(1),), door="derived")]).tasks == ()
    assert planned(rules, [held(forms=(form(1, raw_frame_bytes=0),))]).tasks == ()


def test_lossy_copies_expire_by_themselves_and_do_not_keep_their_study() -> None:
    rules = [
        {"name": "copies", "when": {"derived": True}, "then": {"delete_after_days": 10}},
        {"name": "all", "when": {"derived": False}, "then": {"delete_after_days": 100}},
    ]
    copies = [held(age=20, forms=(form(2),), door="derived", instance_id=2, series_id=2)]
    assert steps(planned(rules, [held(age=20, forms=(form(1),))], copies)) == [(Step.EXPIRE, "lossy copies")]
    originals = planned(rules, [held(age=100, forms=(form(1),))], [copies[0]._replace(received_at=held().received_at)])
    assert steps(originals) == [(Step.EXPIRE, "")]
