"""What comes with LeanPACS: workloads, policies, prices and ratios."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from leanpacs.errors import ConfigError
from leanpacs.report.policies import Policy
from leanpacs.report.prices import Prices
from leanpacs.report.quantities import parse_toml, read_toml, shipped_names, shipped_text
from leanpacs.report.ratios import Ratios
from leanpacs.report.workload import Workload

BASELINES: Final = ("raw", "zlib", "jpegls", "jpeg2000")
"""Policies that every comparison has."""

OWN: Final = ("leanpacs", "leanpacs-tiers")
"""Policies that are compared when none is given."""


@dataclass(frozen=True, slots=True)
class Example:
    """A workload that comes with LeanPACS, and what to call it by."""

    key: str
    workload: Workload


def examples() -> tuple[Example, ...]:
    """All workloads that come with LeanPACS."""
    return tuple(Example(name, example(name)) for name in shipped_names("workloads"))


def example(name: str) -> Workload:
    """One of them.

    Raises
    ------
    ConfigError
        There is none of this name.
    """
    known = shipped_names("workloads")
    if name not in known:
        raise ConfigError("--example", name, f"no such example; there are: {', '.join(known)}")
    return parse_toml(Workload, shipped_text(f"workloads/{name}.toml"), name)


def policy(name_or_file: str) -> Policy:
    """A policy by the name of one that comes with LeanPACS, or from a file.

    Raises
    ------
    ConfigError
        Neither; or something in the file is wrong.
    """
    known = shipped_names("policies")
    if name_or_file in known:
        return parse_toml(Policy, shipped_text(f"policies/{name_or_file}.toml"), name_or_file)
    file = Path(name_or_file)
    if not file.exists():
        raise ConfigError("--policy", name_or_file, f"no such file, and no policy of that name: {', '.join(known)}")
    return read_toml(Policy, file)


def prices(file: Path | None = None) -> Prices:
    """The prices of a file, or those that come with LeanPACS."""
    return read_toml(Prices, file) if file else parse_toml(Prices, shipped_text("prices.toml"), "prices.toml")


def ratios(file: Path | None = None) -> Ratios:
    """The ratios of a file, or those that come with LeanPACS."""
    return read_toml(Ratios, file) if file else parse_toml(Ratios, shipped_text("ratios.toml"), "ratios.toml")


def text(name: str) -> str:
    """The TOML text of prices, ratios, a policy or an example that comes with LeanPACS.

    Raises
    ------
    ConfigError
        There is none of this name.
    """
    files = {"prices": "prices.toml", "ratios": "ratios.toml"}
    for folder in ("policies", "workloads"):
        files |= {key: f"{folder}/{key}.toml" for key in shipped_names(folder)}
    if name not in files:
        raise ConfigError("--show", name, f"there is no such file; there are: {', '.join(files)}")
    return shipped_text(files[name])
