"""Amounts as people write them (``250 MB``, ``5 Mbps``) and the checked models that hold them."""

from __future__ import annotations

import re
import tomllib
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Final, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from leanpacs.errors import ConfigError

_AMOUNT: Final = re.compile(r"\s*([0-9]+(?:[._ ]?[0-9]+)*(?:e[0-9]+)?)\s*([A-Za-z/]*)\s*", re.ASCII | re.IGNORECASE)
_BYTES: Final = {"": 1, "b": 1, "bytes": 1, "kb": 1e3, "mb": 1e6, "gb": 1e9, "tb": 1e12, "pb": 1e15}
_BITS: Final = {
    "bps": 1,
    "kbps": 1e3,
    "mbps": 1e6,
    "gbps": 1e9,
    "bit/s": 1,
    "kbit/s": 1e3,
    "mbit/s": 1e6,
    "gbit/s": 1e9,
}


class Checked(BaseModel):
    """A part of a file that a user writes: unknown keys are refused, values cannot change later."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)


def amount(value: Any, units: dict[str, float], example: str) -> float:
    """Read a number with a unit.

    Parameters
    ----------
    value : int, float or str
        A plain number is in the smallest unit.
    units : dict
        Factor of each unit, in small letters.
    example : str
        What the error shows.

    Raises
    ------
    ValueError
        It is no such amount.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError(f"write an amount such as {example}")
    if not isinstance(value, str):
        return float(value)
    match = _AMOUNT.fullmatch(value)
    if not match or match[2].lower() not in units:
        raise ValueError(f"write an amount such as {example}")
    return float(match[1].replace("_", "").replace(" ", "")) * units[match[2].lower()]


def _bytes(value: Any) -> float:
    return amount(value, _BYTES, '"250 MB" or 250e6')


def _bits_per_second(value: Any) -> float:
    return amount(value, _BITS, '"5 Mbps" or 5e6')


Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Percent = Annotated[float, Field(gt=-100, le=1000, allow_inf_nan=False)]
SizeBytes = Annotated[float, BeforeValidator(_bytes), Field(ge=0, allow_inf_nan=False)]
BitsPerSecond = Annotated[float, BeforeValidator(_bits_per_second), Field(gt=0, allow_inf_nan=False)]
Text = Annotated[str, Field(min_length=1)]

Model = TypeVar("Model", bound=Checked)


def read_toml(kind: type[Model], file: Path) -> Model:
    """Read and check a TOML file.

    Raises
    ------
    ConfigError
        It cannot be read, or something in it is unknown, missing or out of range: every fault is named, one a line.
    """
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(str(file), "", f"cannot be read: {error}") from None
    return parse_toml(kind, text, str(file))


def shipped_text(name: str) -> str:
    """A file that comes with LeanPACS, by its path below ``report/shipped``."""
    return resources.files("leanpacs.report").joinpath("shipped", *name.split("/")).read_text(encoding="utf-8")


def shipped_names(folder: str) -> tuple[str, ...]:
    """Names of the TOML files in a folder below ``report/shipped``, without ``.toml``."""
    entries = resources.files("leanpacs.report").joinpath("shipped", folder).iterdir()
    return tuple(sorted(entry.name.removesuffix(".toml") for entry in entries if entry.name.endswith(".toml")))


def parse_toml(kind: type[Model], text: str, where: str) -> Model:
    """Check TOML text; raises as :func:`read_toml` does."""
    try:
        return kind.model_validate(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(where, "", f"is not TOML: {error}") from None
    except ValidationError as error:
        faults = [_fault(fault) for fault in error.errors(include_url=False)]
        first = error.errors(include_url=False)[0]
        raise ConfigError(where, _short(first.get("input")), "\n  ".join(["", *faults])) from None


def _fault(fault: Any) -> str:
    place = ".".join(str(part + 1) if isinstance(part, int) else str(part) for part in fault["loc"]) or "the file"
    if fault["type"] == "extra_forbidden":
        return f"{place}: no such key here"
    message = fault["msg"].removeprefix("Value error, ")
    if fault["type"] in ("missing", "value_error"):
        return f"{place}: {message}"
    return f"{place}: {message} (found {_short(fault.get('input'))!r})"


def _short(value: Any) -> Any:
    return value if isinstance(value, str | int | float | bool) else ""
