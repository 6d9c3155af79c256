"""The installed command: policy check and explain, lifecycle plan, run, pause, resume, status, hold."""

from __future__ import annotations

from pathlib import Path

import pytest

import data
from commands import run

AT_ONCE = """
name = "at once"
[[rules]]
name = "dense at once"
[rules.then]
preset = "dense"
"""

RECIPES = [
    *(data.Recipe(modality="CT", series=1, instance=n, seed=n, rows=96, columns=96, signed=True) for n in range(1, 5)),
    data.Recipe(modality="US", series=2, instance=5, samples=3, bits_allocated=8, bits_stored=8, rows=64, columns=80),
    data.Recipe(modality="SR", series=3, instance=6, kind="none"),
    data.Recipe(modality="US", series=4, instance=7, transfer_syntax=data.RLE),
]


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """An archive that has taken in what the recipes say."""
    source = tmp_path / "source"
    source.mkdir()
    for number, recipe in enumerate(RECIPES):
        (source / f"{number}.dcm").write_bytes(data.make_instance(recipe))
    run("import", source, "--data", tmp_path / "archive", "--json")
    return tmp_path / "archive"


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    """A policy that makes everything dense at once."""
    path = tmp_path / "policy.toml"
    path.write_text(AT_ONCE)
    return path


def test_recompressed_by_policy_and_given_back_as_received(tmp_path: Path, archive: Path, policy: Path) -> None:
    here = ("--policy", policy, "--data", archive)
    nothing = run("lifecycle", "plan", "--data", archive, "--json")
    assert (nothing["instances"], nothing["totals"]) == (len(RECIPES), [])
    later = run("lifecycle", "plan", "--data", archive, "--in-days", "31", "--json")
    assert [total["name"] for total in later["totals"]] == ["recompress dense"]

    planned = run("lifecycle", "plan", *here, "--limit", "3", "--json")
    (total,) = planned["totals"]
    assert (total["name"], total["rule"], total["tasks"]) == ("recompress dense", "dense at once", len(RECIPES))
    assert total["saved_bytes"] > 0
    assert total["seconds"] > 0
    scores = [task["saves_bytes"] / task["seconds"] for task in planned["tasks"]]
    assert len(scores) == 3
    assert scores == sorted(scores, reverse=True)

    before = run("status", "--data", archive, "--json")["total"]["stored_bytes"]
    done = run("lifecycle", "run", *here, "--json")
    outcomes = {row["outcome"]: row["number"] for row in done["tasks"]}
    assert sum(outcomes.values()) == len(RECIPES)
    assert outcomes["done"] >= 4
    assert "failed" not in outcomes
    after = run("status", "--data", archive, "--json")["total"]["stored_bytes"]
    assert after < before
    assert before - after == done["bytes_before"] - done["bytes_after"]

    assert run("lifecycle", "plan", *here, "--json")["totals"] == []
    again = run("lifecycle", "run", *here, "--json")
    assert (again["tasks"], again["ended"]) == ([], "nothing is left to do")
    status = run("lifecycle", "status", *here, "--json")
    assert {(row["task"], row["rule"]) for row in status["done"]} == {("recompress dense", "dense at once")}
    assert sum(row["tasks"] for row in status["done"]) == len(RECIPES)
    assert status["failed"] == []
    assert status["saved_bytes"] == before - after
    assert status["projected_saved_bytes"] == 0

    assert run("verify", "--data", archive, "--json")["problems"] == []
    run("export", "--out", tmp_path / "out", "--data", archive)
    given_back = sorted(path.read_bytes() for path in (tmp_path / "out").rglob("*.dcm"))
    assert given_back == sorted(data.make_instance(recipe) for recipe in RECIPES)


def test_paused_work_is_not_begun(archive: Path, policy: Path) -> None:
    here = ("--policy", policy, "--data", archive)
    run("lifecycle", "pause", "--data", archive)
    done = run("lifecycle", "run", *here, "--json")
    assert (done["tasks"], done["ended"]) == ([], "it is paused")
    assert run("lifecycle", "status", *here, "--json")["paused"] is True
    run("lifecycle", "resume", "--data", archive)
    assert run("lifecycle", "run", *here, "--max-tasks", "2", "--json")["ended"] == "2 tasks are done"
    status = run("status", "--data", archive, "--json")
    (left,) = status["lifecycle_left"]
    assert (left["task"], left["rule"], left["tasks"]) == ("recompress dense", "dense at once", len(RECIPES))
    assert left["saved_bytes"] > 0
    assert sum(row["forms"] for row in status["forms"] if row["tier"] == "hot") == len(RECIPES)


def test_policy_is_checked_and_explained(tmp_path: Path, archive: Path, policy: Path) -> None:
    assert run("policy", "check", policy, "--json")["name"] == "at once"
    for name in ("default", "clinic"):
        assert run("policy", "check", name, "--json")["name"] == name
    assert "warm" in run("policy", "check", "regional", expect=3)
    wrong = tmp_path / "wrong.toml"
    wrong.write_text('name = "x"\n[[rules]]\nname = "a"\n[rules.when]\nage = 3\n[rules.then]\npreset = "denser"\n')
    said = run("policy", "check", wrong, expect=3)
    assert "rules.0.when.age: no such key" in said
    assert "denser" in said

    uid = RECIPES[0].sop_uid
    young = run("policy", "explain", uid, "--data", archive, "--json")
    assert (young["wanted"]["preset"], young["because"]["preset"]) == ("fast", "fast on arrival")
    assert young["rules"][1] == {"rule": "dense after 30 days unread", "holds": False, "fails": ["not unread_days 30"]}
    old = run("policy", "explain", uid, "--in-days", "40", "--data", archive, "--json")
    assert (old["wanted"]["preset"], old["because"]["preset"]) == ("dense", "dense after 30 days unread")
    run("policy", "explain", "1.2.3", "--data", archive, expect=9)


def test_what_is_on_hold_is_not_deleted(archive: Path) -> None:
    study, series = RECIPES[0].study_uid, RECIPES[4].series_uid
    run("hold", "add", "--series", series, "--reason", "trial", "--data", archive)
    (row,) = run("hold", "list", "--data", archive, "--json")
    assert (row["study_uid"], row["series_uid"], row["reason"]) == (study, series, "trial")
    for refused in (("--study", study), ("--series", series), ("--instance", RECIPES[4].sop_uid)):
        assert "hold" in run("delete", *refused, "--yes", "--data", archive, expect=10)
    run("delete", "--instance", RECIPES[0].sop_uid, "--yes", "--data", archive)
    run("hold", "release", row["id"], "--data", archive)
    run("delete", "--study", study, "--yes", "--data", archive)
