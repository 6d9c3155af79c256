"""The installed command: dictionaries are trained again when much has come, and heads compressed with the new ones."""

from __future__ import annotations

from pathlib import Path

import data
from commands import run

CONFIG = """
[lifecycle]
retrain_after_instances = 20
policy = "{policy}"
[tiers.warm]
kind = "local"
url = "{warm}"
"""
POLICY = """
name = "newest"
[[rules]]
name = "newest heads"
[rules.then]
newest_dictionary = true
[[rules]]
name = "elsewhere"
[rules.then]
tier = "warm"
"""
MR = "1.2.840.10008.5.1.4.1.1.4"


def test_dictionaries_are_trained_again_by_themselves_and_heads_follow(tmp_path: Path) -> None:
    source = data.corpus_folder() / "MR" / "SAG-anon"
    received = {path.read_bytes() for path in source.iterdir()}
    policy, config, warm = tmp_path / "policy.toml", tmp_path / "leanpacs.toml", tmp_path / "warm"
    policy.write_text(POLICY)
    config.write_text(CONFIG.format(policy=policy, warm=warm))
    here = ("--data", tmp_path / "archive", "--config", config)
    run("import", source, *here, "--json")
    planned = run("lifecycle", "plan", *here, "--json")["totals"]
    assert f"retrain {MR}" in {total["name"] for total in planned}
    before = run("status", *here, "--json")["total"]["stored_bytes"]
    done = run("lifecycle", "run", *here, "--json")
    outcomes = {(row["task"], row["outcome"]): row["number"] for row in done["tasks"]}
    assert outcomes[f"retrain {MR}", "done"] == 1
    assert outcomes["rehead", "done"] > len(received) / 2
    (trained,) = [row for row in run("dictionary", "list", *here, "--json") if row["scope"] == MR]
    assert (trained["version"], trained["samples"] > 8) == (1, True)
    assert [path for path in warm.rglob(f"*{trained['id']}*") if path.is_file()]
    assert run("status", *here, "--json")["total"]["stored_bytes"] < before
    assert run("lifecycle", "run", *here, "--json")["tasks"] == []
    run("export", "--out", tmp_path / "out", *here, "--quiet")
    assert {path.read_bytes() for path in (tmp_path / "out").rglob("*.dcm")} == received
