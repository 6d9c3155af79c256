"""Settings read from a TOML file, the environment and command line flags.

Only whoever reads them loads the library that does: processes that are handed their settings stay smaller.
"""

from __future__ import annotations

import json
import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_settings import BaseSettings, EnvSettingsSource, SettingsConfigDict, SettingsError

from leanpacs.config.settings import Settings
from leanpacs.errors import ConfigError

ENVIRONMENT_PREFIX = "LEANPACS_"
_SECRET = re.compile("secret|password")
# Variables that share the prefix but are read by the tests and benchmarks only.
_NOT_SETTINGS = ("LEANPACS_TEST_", "LEANPACS_BENCH_")


class _Environment(BaseSettings, Settings):
    """How variables are named; never constructed."""

    model_config = SettingsConfigDict(env_prefix=ENVIRONMENT_PREFIX, env_nested_delimiter="__", env_nested_max_split=1)


def load_settings(*, file: Path | None = None, flags: Mapping[str, Mapping[str, object]] | None = None) -> Settings:
    """Build the settings: defaults < TOML file < environment (``LEANPACS_SECTION__KEY``) < flags.

    Parameters
    ----------
    file : Path, optional
        TOML file with one table for each section.
    flags : mapping of section to mapping of key to value, optional
        What was given on the command line; values of ``None`` count as not given.

    Raises
    ------
    ConfigError
        Something is unknown, missing or out of range. Its text lists every fault, one on each line; ``key``
        and ``value`` are those of the first.
    """
    layers = [_from_file(file), _from_environment(), _given(flags or {})]
    unknown = _unknown_variables()
    try:
        settings = Settings(**_merged(layers))
    except ValidationError as error:
        raise _config_error(unknown + _faults(error)) from None
    if unknown:
        raise _config_error(unknown)
    return settings


def _from_file(file: Path | None) -> dict[str, Any]:
    if file is None:
        return {}
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError("config", str(file), f"cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError("config", str(file), f"is not TOML: {error}") from error


def _from_environment() -> dict[str, Any]:
    try:
        found = EnvSettingsSource(_Environment)()
    except SettingsError as error:
        raise ConfigError("environment", ENVIRONMENT_PREFIX + "*", str(error.__cause__ or error)) from error
    for name, value in found.get("tiers", {}).items():
        if isinstance(value, str):  # the table of one tier, which the library leaves as it is
            try:
                found["tiers"][name] = json.loads(value)
            except ValueError as error:
                raise ConfigError(f"tiers.{name}", "...", f"is not JSON: {error}") from None
    return found


def _given(flags: Mapping[str, Mapping[str, object]]) -> dict[str, Any]:
    return {name: {k: v for k, v in keys.items() if v is not None} for name, keys in flags.items()}


def _merged(layers: list[dict[str, Any]]) -> dict[str, Any]:
    """Merge by section and key, later layers winning; what is not a table is left to the validation."""
    merged: dict[str, Any] = {}
    for layer in layers:
        for name, value in layer.items():
            held = merged.get(name)
            merged[name] = {**held, **value} if isinstance(held, dict) and isinstance(value, dict) else value
    return merged


def _unknown_variables() -> list[tuple[str, object, str]]:
    """Find variables that look like settings and are none; the library would pass over them in silence."""
    known = {f"{ENVIRONMENT_PREFIX}{name}__".upper() for name in Settings.model_fields}
    whole = {f"{ENVIRONMENT_PREFIX}FORWARD", f"{ENVIRONMENT_PREFIX}TIERS"}
    return [
        (name, _without_secrets(value), f"no such setting; the form is {ENVIRONMENT_PREFIX}SECTION__KEY")
        for name, value in sorted(os.environ.items())
        if name.upper().startswith(ENVIRONMENT_PREFIX)
        and name.upper() not in whole
        and not name.upper().startswith((*_NOT_SETTINGS, *known))
    ]


def _faults(error: ValidationError) -> list[tuple[str, object, str]]:
    return [
        (
            ".".join(str(part) for part in fault["loc"]),
            _without_secrets(fault["input"]),
            "no such setting" if fault["type"] == "extra_forbidden" else fault["msg"],
        )
        for fault in error.errors(include_url=False)
    ]


def _without_secrets(value: object) -> object:
    """What was given, but for secrets and for passwords in URLs: errors end up in logs."""
    if isinstance(value, Mapping):
        return {key: "***" if _SECRET.search(str(key)) else _without_secrets(one) for key, one in value.items()}
    if isinstance(value, str):
        value = re.sub(r"(?<=://)([^/@:]*):[^/@]*@", r"\1:***@", value)
        return re.sub(r"""(["']\w*(?:secret|password)\w*["']\s*[:=]\s*)["'][^"']*["']""", r'\1"***"', value)
    return value


def _config_error(faults: list[tuple[str, object, str]]) -> ConfigError:
    (key, value, message), *others = faults
    lines = [message, *(str(ConfigError(*fault)) for fault in others)]
    return ConfigError(key, value, "\n".join(lines))
