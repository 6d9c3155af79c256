"""The documentation says what the code does."""

from __future__ import annotations

import re
import runpy
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import typer

from leanpacs.cli.main import app
from leanpacs.config.loading import load_settings
from leanpacs.lifecycle.policy import Policy as Rules
from leanpacs.report.policies import Policy
from leanpacs.report.quantities import parse_toml
from leanpacs.report.workload import Workload

ROOT = Path(__file__).parent.parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
BLOCK = re.compile(r"^```(\w*)(.*?)\n(.*?)^```", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")

KINDS = {"workload": Workload, "policy": Policy, "rules": Rules}
"""What a block of TOML is when it says so; else it is a part of the settings."""

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def blocks(page: Path, *languages: str) -> list[tuple[str, str]]:
    """(what stands after the language, content) of each fenced block in one of the languages."""
    found = BLOCK.findall(page.read_text(encoding="utf-8"))
    return [(notes.strip(), content) for language, notes, content in found if language in languages]


def anchors(page: Path) -> set[str]:
    """Anchors of the headings, as forges make them."""
    headings = re.findall(r"^#+ +(.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_generated_pages_are_what_the_code_says() -> None:
    pages: dict[Path, str] = runpy.run_path(str(ROOT / "scripts" / "generate_reference.py"))["pages"]()
    for path, text in pages.items():
        assert path.read_text(encoding="utf-8") == text, f"{path} is stale: run make docs-reference"


@each_page
def test_links_lead_somewhere(page: Path) -> None:
    for target in LINK.findall(page.read_text(encoding="utf-8")):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        linked = (page.parent / path).resolve() if path else page
        assert linked.exists(), target
        if anchor:
            assert anchor in anchors(linked), target


@each_page
def test_settings_in_pages_exist(page: Path, tmp_path: Path) -> None:
    for kind, content in blocks(page, "toml"):
        tomllib.loads(content)
        if kind:
            parse_toml(KINDS[kind], content, str(page))
            continue
        file = tmp_path / "leanpacs.toml"
        file.write_text(content, encoding="utf-8")
        load_settings(file=file)


@each_page
def test_keys_named_in_pages_exist(page: Path) -> None:
    settings = load_settings().model_dump()
    sections = "|".join(settings)
    for section, key in re.findall(rf"`({sections})\.(?!jsonl|sqlite)(\w+)`", page.read_text(encoding="utf-8")):
        assert key in settings[section], f"{section}.{key}"


@each_page
def test_commands_in_pages_exist(page: Path) -> None:
    for _, content in blocks(page, "sh", "ini"):
        for line in content.replace("\\\n", " ").splitlines():
            match = re.search(r"(?:^|[ /=])leanpacs ([a-z][a-z-]*(?: .*)?)$", line.split(" #")[0])
            if match:
                check_command(shlex.split(match[1]))


def check_command(words: list[str]) -> None:
    """Find the command and each of its options."""
    command: Any = typer.main.get_command(app)
    context = typer.Context(command, info_name="leanpacs")
    while hasattr(command, "get_command"):
        name = words.pop(0)
        found = command.get_command(context, name)
        assert found is not None, f"no such command: {name}"
        command = found
    known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    for option in words:
        if option.startswith("--"):
            assert option in {*known, "--help"}, f"{command.name} has no {option}"


@each_page
def test_python_in_pages_runs(page: Path, tmp_path: Path) -> None:
    for notes, content in blocks(page, "python"):
        if notes.startswith("not run:"):
            continue
        run = subprocess.run(
            [sys.executable, "-W", "error", "-c", content],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert run.returncode == 0, run.stderr


def test_every_page_is_in_the_index() -> None:
    index = ROOT / "docs" / "index.md"
    linked = {(index.parent / target.partition("#")[0]).resolve() for target in LINK.findall(index.read_text())}
    decisions = ROOT / "docs" / "decisions"
    linked |= {(decisions / t).resolve() for t in LINK.findall((decisions / "README.md").read_text())}
    assert {page.resolve() for page in PAGES if "docs" in page.parts} - linked == {index.resolve()}


def test_changelog_knows_the_version() -> None:
    import leanpacs

    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert "## Unreleased" in text or f"## {leanpacs.__version__}" in text


def test_help_text_of_every_command_is_there() -> None:
    module = runpy.run_path(str(ROOT / "scripts" / "generate_reference.py"))
    root: Any = typer.main.get_command(app)
    for name, command, _ in module["_commands"](root, "leanpacs", None):
        assert (command.help or "").strip(), f"{name} has no help"
        for parameter in command.params:
            assert getattr(parameter, "help", "") or parameter.hidden, f"{name}: {parameter.name} has no help"
