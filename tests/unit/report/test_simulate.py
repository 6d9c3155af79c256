"""The model: cases computed by hand, and what must hold for any workload."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leanpacs.errors import ConfigError
from leanpacs.report import examples
from leanpacs.report.policies import Policy
from leanpacs.report.prices import Band, Prices, priced
from leanpacs.report.ratios import Ratios
from leanpacs.report.simulate import Assumptions, project
from leanpacs.report.simulate_compare import compare
from leanpacs.report.simulate_ledger import Projection, by_year
from leanpacs.report.simulate_lines import line_use, waits
from leanpacs.report.workload import Workload

GB = 1e9
SOURCE = {"source": "https://example.org", "date": "2026-11-22"}
CHEAP = {"title": "disk", "place": "on-premises", "per_gb_month": [{"per_gb": 0.01}], **SOURCE}
CLOUD = {
    "title": "cloud",
    "place": "cloud",
    "per_gb_month": [{"per_gb": 0.002}],
    "per_1000_writes": 10,
    "per_1000_reads": 1,
    "retrieval_per_gb": 0.05,
    "restore_hours": 5,
    **SOURCE,
}
PRICES = Prices.model_validate(
    {
        "storage": {"disk": CHEAP, "cloud": CLOUD},
        "core": {"own": {"title": "core", "place": "on-premises", "per_core_hour": 0.5, **SOURCE}},
        "egress": {"cloud": {"title": "out", "place": "cloud", "per_gb_month": [{"per_gb": 0.1}], **SOURCE}},
    }
)
RATIOS = Ratios.model_validate(
    {
        "title": "by hand",
        "source": "https://example.org",
        "date": "2026-11-22",
        "modality": {
            "other": {
                "half": {"ratio": 0.5, "encode_seconds_per_gb": 10, "decode_seconds_per_gb": 4},
                "fifth": {"ratio": 0.2, "encode_seconds_per_gb": 100, "decode_seconds_per_gb": 20},
            }
        },
    }
)


def workload(**changes: Any) -> Workload:
    """One study of 10 GB a day, 5 instances in 2 series; 12 months of 365/12 days."""
    studies = {"studies_per_day": 1, "bytes_per_study": "10 GB", "instances_per_study": 5, "series_per_study": 2}
    return Workload.model_validate(
        {"name": "by hand", "modality": {"CT": {**studies, **changes.pop("ct", {})}}, **changes}
    )


def policy(*representations: dict[str, Any], **changes: Any) -> Policy:
    record = {
        "name": "by hand",
        "compute": "own",
        "tiers": {"hot": "disk", "cold": "cloud"},
        "representations": list(representations) or [{"preset": "half"}],
    }
    return Policy.model_validate({**record, **changes})


def run(one: Policy, load: Workload | None = None, years: int = 1) -> Projection:
    return project(one, Assumptions(load or workload(), RATIOS, PRICES, years))


# -- by hand


def test_a_year_of_studies_under_one_form() -> None:
    found = run(policy({"preset": "half"}))
    assert found.months == 12
    assert found.arrived.sum() == pytest.approx(3650 * GB)
    assert found.arrived[0] == pytest.approx(300 * GB), "30 days"
    assert found.raw[[0, 1, -1]] == pytest.approx([0, 300 * GB, 3650 * GB])
    assert found.stored["hot"] == pytest.approx(found.raw / 2)
    assert found.stored["cold"].sum() == 0
    assert found.traffic_out.sum() == 0, "nobody reads"
    # Each GB is encoded in 10 seconds and decoded in 4 to be compared.
    assert found.cpu_hours["arrival"].sum() == pytest.approx(3650 * 14 / 3600)
    assert found.cost["processors"].sum() == pytest.approx(3650 * 14 / 3600 * 0.5)
    # Half of 300 GB stand there at the end of the first month, half of that on the mean of it.
    assert found.cost["storage"][0] == pytest.approx(75 * 0.01)


def test_copies_and_other_tiers_count() -> None:
    found = run(policy({"preset": "half", "copies": 2, "also_on": ["cold"]}))
    assert found.stored["hot"][-1] == pytest.approx(3650 * GB)
    assert found.stored["cold"][-1] == pytest.approx(1825 * GB)
    assert found.cost["requests"].sum() == pytest.approx(365 * 5 / 1000 * 10), "5 instances a day are written there"
    assert found.raw[-1] == pytest.approx(3650 * GB), "what is held is counted once"


def test_growth_is_compounded() -> None:
    found = run(policy(), workload(growth_percent_per_year=10, ct={"study_growth_percent_per_year": 20}), years=3)
    years = by_year(found.arrived)
    assert years[1] / years[0] == pytest.approx(1.1 * 1.2)
    assert years[2] / years[1] == pytest.approx(1.1 * 1.2)


def test_working_days() -> None:
    assert run(policy(), workload(working_days_per_year=73)).arrived.sum() == pytest.approx(730 * GB)


def test_recompression_at_an_age() -> None:
    found = run(policy({"preset": "half"}, {"preset": "fifth", "after_days": 100}))
    # At the end of the year the studies of the last 100 days are in the first form.
    assert found.stored["hot"][-1] == pytest.approx((100 * 0.5 + 265 * 0.2) * 10 * GB)
    # Each GB is decoded in 4 seconds, encoded in 100, and decoded in 20 to be compared.
    assert found.cpu_hours["recompression"].sum() == pytest.approx(2650 * 124 / 3600)
    assert found.cpu_hours["recompression"][:3].sum() == 0


def test_moving_to_a_tier_elsewhere() -> None:
    found = run(policy({"preset": "half"}, {"preset": "half", "tier": "cold", "after_days": 100, "pack": "series"}))
    assert found.stored["hot"][-1] == pytest.approx(500 * GB)
    assert found.stored["cold"][-1] == pytest.approx(1325 * GB)
    assert found.retrieved["hot"].sum() == pytest.approx(1325 * GB), "read to be moved"
    assert found.cost["requests"].sum() == pytest.approx(265 * 2 / 1000 * 10), "2 series a study"
    assert found.cpu_hours["recompression"].sum() == 0
    assert found.cost["egress"].sum() == 0, "what goes into the cloud is free"


def test_a_copy_that_is_there_already_is_not_moved() -> None:
    found = run(policy({"preset": "half", "also_on": ["cold"]}, {"preset": "half", "tier": "cold", "after_days": 100}))
    assert found.stored["cold"][-1] == pytest.approx(1825 * GB)
    assert found.cost["requests"].sum() == pytest.approx(365 * 5 / 1000 * 10), "written on arrival only"
    assert found.retrieved["hot"].sum() == 0


def test_reads_from_each_tier_leave_through_the_door() -> None:
    load = workload(reads=[{"until_days": 100, "reads_per_study_per_day": 0.1}, {"reads_per_study_per_day": 0.01}])
    found = run(policy({"preset": "half"}, {"preset": "half", "tier": "cold", "after_days": 100}), load)
    young = sum(min(age, 100) * 0.1 for age in np.arange(365) + 0.5)
    old = sum(max(age - 100, 0) * 0.01 for age in np.arange(365) + 0.5)
    assert found.traffic_out.sum() == pytest.approx((young + old) * 5 * GB, rel=1e-4)
    assert found.retrieved["cold"].sum() == pytest.approx(old * 5 * GB, rel=1e-3)
    assert found.restores.sum() == pytest.approx(old, rel=1e-3)
    assert found.cost["retrieval"].sum() == pytest.approx(old * 5 * 0.05, rel=1e-3)
    assert found.cost["egress"].sum() == pytest.approx(old * 5 * 0.1, rel=1e-3), "the archive is elsewhere"


def test_transcoding_for_delivery() -> None:
    load = workload(reads=[{"reads_per_study_per_day": 0.1}])
    found = run(policy({"preset": "fifth"}, delivery={"preset": "half", "cached": 0.25}), load)
    read = found.retrieved["hot"].sum() / 0.2
    assert found.traffic_out.sum() == pytest.approx(read / 2)
    assert found.cpu_hours["delivery"].sum() == pytest.approx(read / GB * 0.75 * (20 + 10) / 3600)


def test_edge_caches_spare_the_line_what_is_read_again() -> None:
    load = workload(
        reads=[{"reads_per_study_per_day": 0.1}],
        sites={"far": {"link": "8 Mbps", "share_of_reads": 0.5, "share_of_studies": 0.2}},
    )
    plain = run(policy(), load)
    cached = run(policy(edge={"hit_rate": 0.6, "prefetched": 0.5, "upload": "half"}), load)
    sent = plain.lines["far"].sum() - 0.2 * 3650 * GB
    assert cached.lines["far"].sum() == pytest.approx(sent * 0.7 + 0.1 * 3650 * GB)
    assert cached.traffic_out.sum() == pytest.approx(plain.traffic_out.sum() - 0.3 * sent)
    assert cached.traffic_in.sum() == pytest.approx((0.8 + 0.1) * 3650 * GB)
    assert cached.cpu_hours["upload"].sum() == pytest.approx(0.2 * 3650 * 14 / 3600)


def test_waiting_is_bits_over_the_line() -> None:
    load = workload(sites={"far": {"link": "8 Mbps", "share_of_reads": 1}})
    given_ = Assumptions(load, RATIOS, PRICES, 1)
    (wait,) = waits(policy(edge={"hit_rate": 0.75}), given_)
    assert (wait.raw_bytes, wait.sent_bytes) == (10 * GB, 5 * GB)
    assert wait.seconds == pytest.approx(5000)
    assert wait.mean_seconds == pytest.approx(1250)


def test_the_articles_mammograms_at_5_mbps() -> None:
    """104 MB take more than two minutes, 20 MB take 32 s, 5 MB take 8 s (9 in the article, which rounds up)."""
    load = workload(ct={"bytes_per_study": "104 MB"}, sites={"far": {"link": "5 Mbps"}})
    raw, fifth = (
        next(iter(waits(policy({"preset": preset}), Assumptions(load, RATIOS, PRICES, 1)))).seconds
        for preset in ("raw", "fifth")
    )
    assert raw == pytest.approx(166.4)
    assert fifth == pytest.approx(33.28)


def test_use_of_the_lines() -> None:
    load = workload(sites={"far": {"link": "8 Mbps", "number": 5, "share_of_studies": 1}})
    found = run(policy(), load)
    month = 365 / 12 * 86_400
    expected = found.arrived[-1] / (1e6 * 5 * month)
    assert line_use(found, Assumptions(load, RATIOS, PRICES, 1))["far"] == pytest.approx(expected)


def test_what_is_held_is_brought_over_in_the_first_month() -> None:
    load = workload(ct={"held_studies": 730, "studies_per_day": 0}, held_over_years=2)
    found = run(policy({"preset": "half"}, {"preset": "fifth", "after_days": 365}), load)
    assert found.raw[0] == pytest.approx(7300 * GB)
    assert found.stored["hot"][0] == pytest.approx((365 * 0.5 + 365 * 0.2) * 10 * GB)
    first = found.cpu_hours["recompression"][0] * 3600 / GB * GB
    moved = 30 * 10 * 124  # GB of 30 days, decoded, encoded, compared
    assert first == pytest.approx(3650 * 14 + 3650 * 120 + moved)
    assert found.cpu_hours["recompression"][1] * 3600 == pytest.approx(310 * 124), "31 days"


def test_deleted_studies_leave_room() -> None:
    found = run(policy(keep_years=1), years=3)
    assert found.raw[-1] == pytest.approx(3650 * GB)
    assert found.arrived.sum() == pytest.approx(3 * 3650 * GB)


def test_bands_of_prices() -> None:
    bands = (Band(up_to_tb=1, per_gb=0.1), Band(up_to_tb=3, per_gb=0.05), Band(per_gb=0.01))
    assert priced(0, bands) == 0
    assert priced(500 * GB, bands) == pytest.approx(50)
    assert priced(4000 * GB, bands) == pytest.approx(100 + 100 + 10)


def test_small_objects_are_billed_as_larger_ones() -> None:
    record = PRICES.model_dump()
    record["storage"]["cloud"] |= {"minimum_object_bytes": 131_072, "overhead_object_bytes": 1000}
    prices = Prices.model_validate(record)
    load = workload(ct={"bytes_per_study": 5e5})
    by_instance, by_series = (
        project(policy({"preset": "half", "tier": "cold", "pack": pack}), Assumptions(load, RATIOS, prices, 1))
        for pack in ("instance", "series")
    )
    assert by_instance.billed["cold"][-1] == pytest.approx(365 * 5 * (131_072 + 1000)), "100 kB raw each"
    assert by_series.billed["cold"][-1] == pytest.approx(365 * 2 * (131_072 + 1000)), "125 kB stored each"
    (note,) = compare([by_instance.policy], Assumptions(load, RATIOS, prices, 1)).compared[0].notes[:1]
    assert "Pack series" in note


# -- whatever the workload

PRESETS = ("half", "fifth")
loads = st.builds(
    lambda studies, size, growth, rate, held: workload(
        ct={"studies_per_day": studies, "bytes_per_study": size, "held_studies": held},
        growth_percent_per_year=growth,
        held_over_years=1,
        reads=[{"until_days": 30, "reads_per_study_per_day": rate}, {"reads_per_study_per_day": rate / 100}],
    ),
    st.floats(0.1, 1000),
    st.floats(1e5, 1e10),
    st.floats(-20, 50),
    st.floats(0, 2),
    st.sampled_from([0, 100]),
)
stages = st.builds(
    lambda first, second, after, unread, tier: policy(
        {"preset": first}, {"preset": second, "after_days": after, "unread_days": unread, "tier": tier}
    ),
    st.sampled_from(PRESETS),
    st.sampled_from(PRESETS),
    st.integers(1, 400),
    st.integers(0, 100),
    st.sampled_from(["hot", "cold"]),
)


@settings(max_examples=25, deadline=None)
@given(stages, loads)
def test_a_compressing_policy_never_holds_or_sends_more_than_raw(one: Policy, load: Workload) -> None:
    found, raw = run(one, load), run(policy({"preset": "raw"}, verify=False), load)
    assert found.raw == pytest.approx(raw.raw), "the same is held"
    assert (found.stored_in_all <= raw.stored_in_all * (1 + 1e-9)).all()
    assert (found.traffic_out <= raw.traffic_out * (1 + 1e-9)).all()
    assert raw.cpu_hours_in_all.sum() == 0


@settings(max_examples=25, deadline=None)
@given(stages, loads)
def test_twice_the_studies_are_twice_of_everything(one: Policy, load: Workload) -> None:
    studies = load.modality["CT"]
    doubled = studies.model_copy(
        update={"studies_per_day": studies.studies_per_day * 2, "held_studies": studies.held_studies * 2}
    )
    once, twice = run(one, load), run(one, load.model_copy(update={"modality": {"CT": doubled}}))
    assert twice.stored_in_all == pytest.approx(once.stored_in_all * 2)
    assert twice.traffic_out == pytest.approx(once.traffic_out * 2)
    assert twice.cpu_hours_in_all == pytest.approx(once.cpu_hours_in_all * 2)
    assert twice.cost_in_all == pytest.approx(once.cost_in_all * 2), "these prices have no bands"


@settings(max_examples=15, deadline=None)
@given(stages, loads)
def test_nothing_is_negative_and_nothing_is_lost(one: Policy, load: Workload) -> None:
    found = run(one, load)
    curves = [found.raw, found.arrived, found.traffic_out, *found.stored.values(), *found.cost.values()]
    for curve in (*curves, *found.retrieved.values(), *found.cpu_hours.values()):
        assert (curve >= -1e-6).all()
    assert found.raw[-1] == pytest.approx(found.raw[0] + found.arrived.sum())


# -- what comes along


@pytest.mark.parametrize("name", [one.key for one in examples.examples()])
def test_examples_run_with_every_policy_that_comes_along(name: str) -> None:
    given_ = Assumptions(examples.example(name), examples.ratios(), examples.prices(), 2)
    names = (*examples.BASELINES, *examples.OWN)
    found = compare([examples.policy(one) for one in names], given_).compared
    stored = {name: one.projection.stored_in_all[-1] for name, one in zip(names, found, strict=True)}
    assert stored["raw"] == max(stored.values())
    assert stored["leanpacs"] < min(stored["zlib"], stored["jpegls"], stored["jpeg2000"])


def test_names_that_nobody_knows_are_told() -> None:
    with pytest.raises(ConfigError, match=r"no such storage in the prices; known: disk, cloud"):
        run(policy(tiers={"hot": "floppy"}))
    with pytest.raises(ConfigError, match=r"no such core"):
        run(policy(compute="abacus"))
    with pytest.raises(ConfigError, match=r"known: fifth, half, raw"):
        run(policy({"preset": "tenth"}))
