"""Every clause that docs/reference/dicomweb.md claims has a test that names it."""

from __future__ import annotations

import re
from pathlib import Path

FOLDER = Path(__file__).parent
PAGE = FOLDER.parents[1] / "docs" / "reference" / "dicomweb.md"


def _claimed() -> set[str]:
    text = re.sub(r"PS3\.(?!18)\d+ [A-Z]?[\d.]+|[Tt]ables? [\d.]+-\d+(?: to [\d.]+-\d+)?", "", PAGE.read_text())
    clauses = set(re.findall(r"(?<![\w.])(?:8|9|10)(?:\.\d+)+(?![\w])", text))
    return clauses | set(re.findall(r"annex ([A-Z])\b", text))


def _tested() -> set[str]:
    marks = re.findall(r"pytest\.mark\.clause\(([^)]*)\)", "".join(p.read_text() for p in FOLDER.glob("test_*.py")))
    return {clause for mark in marks for clause in re.findall(r'"([\w.]+)"', mark)}


def test_every_claimed_clause_has_a_test() -> None:
    claimed, tested = _claimed(), _tested()
    assert len(claimed) > 20
    missing = {one for one in claimed if not any(other == one or other.startswith(f"{one}.") for other in tested)}
    assert not missing
