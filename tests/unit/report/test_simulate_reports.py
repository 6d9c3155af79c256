"""Workloads taken from elsewhere, the command, and what it writes."""

from __future__ import annotations

import csv
import io
import json
import re
from datetime import UTC, date, datetime
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from leanpacs.catalog import DayOfArrivals
from leanpacs.cli.main import app
from leanpacs.errors import ConfigError
from leanpacs.report import examples, sources
from leanpacs.report.results import Analysis, Estimate, Format, FormatResult, Group, Machine, Run
from leanpacs.report.simulate import Assumptions
from leanpacs.report.simulate_compare import Comparison, compare
from leanpacs.report.simulate_page import render
from leanpacs.report.simulate_record import SCHEMA, to_csv, to_json


def group(key: str, *, studies: int, raw_bytes: int, ratio: float) -> Group:
    result = FormatResult("leanpacs-fast", 1.0, Estimate(ratio * raw_bytes), Estimate(ratio), ratio, 9.0, 4.0, 8)
    refused = FormatResult("jpegls", 0.0, Estimate(raw_bytes), Estimate(1.0), None, None, None, 0)
    return Group(key, key, 20, 8, studies, raw_bytes, raw_bytes, raw_bytes, [result, refused])


def analysis(*groups: Group) -> Analysis:
    return Analysis(
        version=1,
        run=Run("2026-11-22T10:00:00+00:00", ["/images"], "200", 1, True, 1.0, 1.0),
        machine=Machine("a processor", 2, "Linux", "3.11", "0.1.0", {}),
        links=[],
        formats=[Format("leanpacs-fast", "fast", "leanpacs")],
        total=group("", studies=9, raw_bytes=1000, ratio=0.4),
        by_modality=list(groups),
        by_sop_class=[],
        by_manufacturer=[],
        by_transfer_syntax=[],
        heads=[],
        on_disk=[],
        lossy=[],
        progressive=[],
        files=20,
        skipped=0,
        problems=[],
        problem_count=0,
    )


def comparison(years: int = 2) -> Comparison:
    given = Assumptions(examples.example("clinic"), examples.ratios(), examples.prices(), years)
    return compare([examples.policy(name) for name in (*examples.BASELINES, *examples.OWN)], given)


def run(*words: str) -> Result:
    return CliRunner().invoke(app, ["simulate", *words])


# -- workloads from elsewhere


def test_an_analysis_gives_studies_and_ratios() -> None:
    known = examples.ratios()
    found = analysis(
        group("CT", studies=4, raw_bytes=10**9, ratio=0.3), group("", studies=1, raw_bytes=10**6, ratio=0.5)
    )
    taken = sources.from_analysis(found, known, days=2)
    ct = taken.workload.modality["CT"]
    assert (ct.studies_per_day, ct.bytes_per_study, ct.instances_per_study) == (2, 2.5e8, 5)
    assert taken.ratios.of("CT", "fast").ratio == 0.3
    assert taken.ratios.of("CT", "fast").encode_seconds_per_gb == 9
    assert taken.ratios.of("CT", "jpegls") == known.of("CT", "jpegls"), "it held nothing there"
    assert taken.ratios.of(sources.UNKNOWN, "fast").ratio == 0.5
    assert taken.ratios.of("XX", "fast").ratio == 0.4, "as all of them together"


def test_an_archive_gives_studies_and_its_own_ratio() -> None:
    past = [
        DayOfArrivals(date(2026, 3, 2), "CT", 3, 6, 30, 3000, 900),
        DayOfArrivals(date(2026, 3, 5), "", 1, 1, 1, 10, 8),
        DayOfArrivals(date(2026, 3, 5), "CT", 1, 2, 10, 1000, 100),
    ]
    taken = sources.from_archive(past, examples.ratios())
    ct = taken.workload.modality["CT"]
    assert (ct.studies_per_day, ct.bytes_per_study, ct.instances_per_study, ct.series_per_study) == (1, 1000, 10, 2)
    assert ct.held_studies == 4
    assert taken.ratios.of("CT", sources.HELD).ratio == 0.25
    assert taken.ratios.of("XX", sources.HELD).ratio == pytest.approx(1008 / 4010)
    assert sources.from_archive(past, examples.ratios(), days=8).workload.modality["CT"].studies_per_day == 0.5
    with pytest.raises(ConfigError, match="holds nothing"):
        sources.from_archive([], examples.ratios())


def test_habits_are_added_to_what_was_taken() -> None:
    taken = sources.from_analysis(
        analysis(group("CT", studies=4, raw_bytes=10**9, ratio=0.3)), examples.ratios(), days=2
    )
    clinic = examples.example("clinic")
    joined = sources.with_habits(taken, clinic).workload
    assert set(joined.modality) == {"CT"}
    assert (joined.reads, joined.sites) == (clinic.reads, clinic.sites)
    assert joined.growth_percent_per_year == clinic.growth_percent_per_year


# -- what is written


def test_json_has_every_month_of_every_policy() -> None:
    made = comparison()
    record = json.loads(to_json(made, at=datetime(2026, 11, 22, tzinfo=UTC)))
    assert record["schema"] == SCHEMA
    assert [one["policy"]["name"] for one in record["policies"]][:4] == ["raw", "zlib", "JPEG-LS", "JPEG 2000"]
    for one, shown in zip(made.compared, record["policies"], strict=True):
        assert shown["stored_bytes"]["hot"] == pytest.approx(one.projection.stored["hot"])
        assert len(shown["cost"]["storage"]) == 24
        assert len(shown["raw_bytes"]) == 25


def test_csv_has_one_value_in_each_row() -> None:
    made = comparison()
    rows = list(csv.DictReader(io.StringIO(to_csv(made))))
    last = [
        row for row in rows if (row["policy"], row["figure"], row["month"]) == ("LeanPACS, tiers", "stored_bytes", "24")
    ]
    stored = made.compared[-1].projection.stored
    assert {row["part"]: float(row["value"]) for row in last} == pytest.approx(
        {tier: float(levels[-1]) for tier, levels in stored.items()}
    )
    spent = sum(float(row["value"]) for row in rows if (row["policy"], row["figure"]) == ("raw", "cost"))
    assert spent == pytest.approx(made.compared[0].projection.cost_in_all.sum(), rel=1e-6)


class Page(HTMLParser):
    """Elements that load something, and the embedded data."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.data = ""
        self._is_data = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self._is_data = given.get("id") == "data"
        if tag not in ("a", "meta"):
            self.loads += [value for name, value in attrs if name in ("src", "href") and value and value != "data:,"]

    def handle_data(self, text: str) -> None:
        if self._is_data:
            self.data += text


def test_page_needs_nothing_else_and_has_the_figures() -> None:
    made = comparison()
    text = render(made, at=datetime(2026, 11, 22, tzinfo=UTC))
    page = Page(text)
    assert page.loads == []
    policies = json.loads(page.data)["policies"]
    assert [one["name"] for one in policies] == [one.projection.policy.name for one in made.compared]
    for one, shown in zip(made.compared, policies, strict=True):
        assert shown["stored"] == pytest.approx(one.projection.stored_in_all, rel=1e-5)
        assert np.sum(list(shown["cost"].values())) == pytest.approx(one.projection.cost_in_all.sum(), rel=1e-4)
    for entry in ("on-premises-disk", "s3-glacier-deep"):
        assert made.given.prices.storage[entry].source in text


def test_page_does_not_run_what_a_file_says() -> None:
    made = comparison(1)
    evil = "</script><script>alert(1)</script>"
    workload = made.given.workload.model_copy(update={"name": evil, "note": evil})
    policy = examples.policy("leanpacs").model_copy(update={"name": evil})
    text = render(compare([policy], Assumptions(workload, made.given.ratios, made.given.prices, 1)))
    assert evil not in text
    assert json.loads(Page(text).data)["policies"][0]["name"] == evil


# -- the command


def test_examples_are_listed_and_run() -> None:
    listed = run("--examples")
    assert listed.exit_code == 0
    assert "clinic" in listed.stdout
    assert "network" in listed.stdout
    found = run("--example", "clinic", "--years", "1")
    assert found.exit_code == 0, found.output
    for name in ("raw", "zlib", "JPEG-LS", "JPEG 2000", "LeanPACS, tiers", "branch-office"):
        assert name in found.stdout


def test_files_are_written(tmp_path: Path) -> None:
    files = {option: tmp_path / f"out.{option}" for option in ("out", "json", "csv")}
    options = [word for option, file in files.items() for word in (f"--{option}", str(file))]
    assert run("--example", "clinic", "--years", "1", *options).exit_code == 0
    assert files["out"].read_text().startswith("<!DOCTYPE html>")
    assert json.loads(files["json"].read_text())["years"] == 1
    assert files["csv"].read_text().startswith("policy,month,figure,part,value\n")


def test_what_is_shown_can_be_given_back(tmp_path: Path) -> None:
    for name, option in (("clinic", "workload"), ("leanpacs", "policy"), ("prices", "prices"), ("ratios", "ratios")):
        file = tmp_path / f"{name}.toml"
        file.write_text(run("--show", name).stdout)
        rest = () if option == "workload" else ("--example", "clinic")
        found = run(*rest, f"--{option}", str(file), "--years", "1")
        assert found.exit_code == 0, found.output


def test_an_analysis_can_be_simulated(tmp_path: Path) -> None:
    file = tmp_path / "analysis.json"
    file.write_text(analysis(group("CT", studies=4, raw_bytes=10**9, ratio=0.3)).to_json())
    found = run("--from-analysis", str(file), "--days", "2", "--example", "clinic", "--years", "1")
    assert found.exit_code == 0, found.output
    assert re.search(r"730 studies and 18[23] GB in the first year", found.stdout)
    assert isinstance(run("--from-analysis", str(file)).exception, ConfigError), "over how many days?"
    assert run("--example", "clinic", "--ratios", str(file), "--years", "1").exit_code == 0


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("--example", "clinic", "--workload", "ours.toml"),
        ("--from-archive", "a", "--from-analysis", "b"),
        ("--from-archive", "nowhere"),
        ("--example", "hospital"),
        ("--example", "clinic", "--policy", "none.toml"),
        ("--show", "everything"),
    ],
)
def test_wrong_words_are_explained(words: tuple[str, ...]) -> None:
    found = run(*words)
    assert found.exit_code != 0
    assert isinstance(found.exception, ConfigError)


def test_two_policies_of_one_name_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(examples.text("leanpacs").replace('name = "LeanPACS"', 'name = "raw"'))
    assert isinstance(run("--example", "clinic", "--policy", str(file)).exception, ConfigError)
