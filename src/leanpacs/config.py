"""Settings: frozen models built from defaults, a TOML file, the environment and command line flags.

Only the command line loads them (:func:`load_settings`); everything else is handed the part it needs.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, IPvAnyNetwork, ValidationError, model_validator
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from leanpacs.errors import ConfigError

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

ENVIRONMENT_PREFIX = "LEANPACS_"
# Variables that share the prefix but are read by the tests and benchmarks only.
_NOT_SETTINGS = ("LEANPACS_TEST_", "LEANPACS_BENCH_")

Port = Annotated[int, Field(ge=0, le=65535)]
Bytes = Annotated[int, Field(ge=0)]
Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]


def _ae_title(text: str) -> str:
    """Check an AE title: 1 to 16 characters of the default repertoire, no backslash (PS3.5 6.2, VR AE)."""
    stripped = text.strip(" ")
    if not re.fullmatch(r"[\x20-\x5b\x5d-\x7e]{1,16}", stripped):
        raise ValueError("an AE title has 1 to 16 printable ASCII characters, none of them a backslash")
    return stripped


AETitle = Annotated[str, AfterValidator(_ae_title)]


class DuplicatePolicy(StrEnum):
    """What to do with other bytes that arrive under a SOP Instance UID which is held already."""

    REFUSE = "refuse"
    KEEP = "keep"
    """Keep what came later in the quarantine."""
    REPLACE = "replace"


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)


class StorageSettings(_Section):
    """Where the archive keeps its files."""

    data: Path = Field(default=Path("leanpacs-data"), description="Folder of the archive: catalog, blobs and spool.")
    minimum_free_bytes: Bytes = Field(
        default=1 << 30,
        description="New instances are refused while the file system has less room than this.",
    )


class DestinationSettings(_Section):
    """Another application entity that instances may be sent to; the name of its table is its AE title."""

    host: str = Field(min_length=1, description="Its name or address.")
    port: int = Field(ge=1, le=65535, description="Its TCP port.")
    prefer: tuple[str, ...] = Field(
        default=(), description="Transfer syntaxes (UIDs or keywords) that it wants uncompressed images in."
    )
    tls: bool = Field(default=False, description="Whether to use TLS; its certificate must be valid for the host.")
    tls_ca: Path | None = Field(
        default=None, description="PEM file of the authorities to trust; those of the system by default."
    )
    reports_apart: bool = Field(
        default=False, description="Whether it wants reports of storage commitment on an association of their own."
    )


class DimseSettings(_Section):
    """The DIMSE door (C-ECHO, C-STORE, C-FIND, C-GET, C-MOVE)."""

    host: str = Field(default="127.0.0.1", min_length=1, description="Address to listen on.")
    port: Port = Field(default=11112, description="TCP port; 0 takes a free one.")
    ae_title: AETitle = Field(default="LEANPACS", description="AE title of this archive.")
    max_pdu_bytes: int = Field(
        default=131_072, ge=4096, le=1 << 24, description="Largest PDU that senders are told they may send."
    )
    processes: int = Field(
        default=0,
        ge=0,
        le=256,
        description="Processes that receive; 0 means one for every two CPU cores, the others being left to settling.",
    )
    allowed_calling: tuple[AETitle, ...] = Field(
        default=(), description="AE titles that may connect; an empty list lets any."
    )
    allowed_addresses: tuple[IPvAnyNetwork, ...] = Field(
        default=(), description="Networks, such as 192.0.2.0/24, that may connect; an empty list lets any."
    )
    tls_certificate: Path | None = Field(
        default=None, description="PEM file with the certificate of this server; with it the door speaks TLS only."
    )
    tls_key: Path | None = Field(default=None, description="PEM file with the private key of that certificate.")
    tls_client_ca: Path | None = Field(
        default=None,
        description="PEM file of authorities; peers must then show a certificate that one of them issued.",
    )
    check_called: bool = Field(default=False, description="Whether callers must call this archive by its own AE title.")
    relational_queries: bool = Field(
        default=True,
        description="Whether queries and retrievals may leave out the unique keys of the levels above, such as the "
        "Study Instance UID of a series.",
    )
    max_associations: int = Field(
        default=64,
        ge=1,
        le=4096,
        description="Associations that each process holds open at once; more are rejected.",
    )
    destinations: Mapping[AETitle, DestinationSettings] = Field(
        default={},
        description="Where C-MOVE may send to, by AE title; see the table below.",
    )
    network_timeout_seconds: Seconds = Field(
        default=60.0,
        gt=0,
        description="An association is aborted when a message stands still for longer in its middle.",
    )
    idle_timeout_seconds: Seconds = Field(
        default=600.0, gt=0, description="An association is aborted when it stays idle for longer."
    )

    @model_validator(mode="after")
    def _tls_is_whole(self) -> Self:
        """A certificate is of no use without its key, nor the other two without a certificate."""
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ValueError("tls_certificate and tls_key are given together or not at all")
        if self.tls_client_ca is not None and self.tls_certificate is None:
            raise ValueError("tls_client_ca needs tls_certificate and tls_key")
        return self


class HttpSettings(_Section):
    """The HTTP door (DICOMweb, pages, health, metrics)."""

    host: str = Field(default="127.0.0.1", min_length=1, description="Address to listen on.")
    port: Port = Field(default=8080, description="TCP port; 0 takes a free one.")
    processes: int = Field(default=1, ge=1, le=256, description="Processes that answer requests.")
    public_url: str = Field(
        default="",
        pattern=r"^(https?://[^\s/?#]+(/[^\s?#]*)?)?$",
        description="URL by which clients know this server, when a proxy stands in front of it.",
    )
    max_results: int = Field(
        default=1000,
        ge=1,
        le=1_000_000,
        description="Most results of one search; a larger limit is cut to this.",
    )


class IngestSettings(_Section):
    """Landing: what happens before a sender gets its acknowledgement."""

    duplicates: DuplicatePolicy = Field(
        default=DuplicatePolicy.REFUSE,
        description="Other bytes under a SOP Instance UID that is held already: 'refuse' them, 'keep' them in "
        "the quarantine, or 'replace' what is held. Equal bytes are always acknowledged and stored once.",
    )
    backlog_bytes: Bytes = Field(
        default=8 << 30, description="Senders wait while more than this has landed and is not settled yet."
    )
    backlog_wait_seconds: Seconds = Field(
        default=30.0,
        description="How long a sender is made to wait for the backlog before it is told to come again.",
    )
    largest_instance_bytes: Bytes = Field(
        default=64 << 30, description="Larger instances are refused while they arrive."
    )
    largest_inflated_bytes: Bytes = Field(
        default=4 << 30, description="A deflated data set that inflates to more than this is kept as it is."
    )


class SettleSettings(_Section):
    """Settling: encode, decode back, compare, pack."""

    workers: int = Field(default=0, ge=0, le=1024, description="Worker processes; 0 means one for each CPU core.")
    preset: str = Field(
        default="fast",
        pattern=r"^[a-z0-9]+(:[0-9]{1,2})?$",
        description="What frames are encoded with: 'fast', 'balanced', 'dense', or one codec, such as 'jpegxl:7'. "
        "While the backlog is above pressed_backlog_bytes it is 'fast'.",
    )
    budget_seconds_per_gb: Seconds = Field(
        default=0.0,
        description="CPU seconds for each GB of samples that encoding and decoding back may take; "
        "0 takes what the preset allows (fast 60, balanced 250, dense 2000).",
    )
    pressed_budget_seconds_per_gb: Seconds = Field(
        default=10.0, gt=0, description="The same budget while the backlog is above pressed_backlog_bytes."
    )
    pressed_backlog_bytes: Bytes = Field(default=8 << 20, description="Backlog above which the smaller budget holds.")
    recode: bool = Field(
        default=True,
        description="Whether received JPEG, JPEG-LS, JPEG Lossless and RLE is held in fewer bytes, from which it is "
        "made again byte for byte. While the backlog is above pressed_backlog_bytes it is kept as it came.",
    )
    drain_seconds: Seconds = Field(
        default=30.0,
        description="When the server stops, how long it goes on settling; the rest waits for the next start.",
    )


class DeliverySettings(_Section):
    """Giving instances back."""

    cache_bytes: Bytes = Field(
        default=8 << 30,
        description="Room on disk, for each process that answers HTTP, for frames and metadata that were costly to "
        "make; nothing is added while the file system has less than storage.minimum_free_bytes. 0 keeps none.",
    )


class WorkerSettings(_Section):
    """Worker processes, in which image codecs run: one that crashes, hangs or grows is replaced."""

    decoders: int = Field(
        default=0,
        ge=0,
        le=1024,
        description="Worker processes that decode for retrieval, for each process that answers; 0 means one for each "
        "CPU core. They are started when they are first needed.",
    )
    memory_bytes: int = Field(
        default=4 << 30, ge=256 << 20, description="What a worker may need beyond what it has when it starts."
    )
    frame_seconds: Seconds = Field(
        default=300.0, gt=0, description="What decoding one frame may take; small frames are given less."
    )
    instance_seconds: Seconds = Field(default=3600.0, gt=0, description="What settling one instance may take.")


class DeleteSettings(_Section):
    """Deleting: tombstone first, blobs later."""

    grace_seconds: Seconds = Field(
        default=86_400.0, description="How long the blobs of a deleted instance stay before they are swept."
    )


class AuditSettings(_Section):
    """The audit trail."""

    segment_bytes: int = Field(
        default=64 << 20,
        ge=4096,
        description="The trail is continued in a new file when the current one is this large.",
    )


class LogSettings(_Section):
    """The log on standard error."""

    level: Literal["debug", "info", "warning", "error"] = Field(default="info", description="Least severity shown.")
    format: Literal["console", "json"] = Field(
        default="console", description="'console' for people, 'json' for one JSON object on each line."
    )


class Settings(BaseSettings):
    """All settings of one archive. Constructing it reads neither files nor the environment."""

    model_config = SettingsConfigDict(
        frozen=True,
        extra="forbid",
        env_prefix=ENVIRONMENT_PREFIX,
        env_nested_delimiter="__",
        env_nested_max_split=1,
    )

    storage: StorageSettings = StorageSettings()
    dimse: DimseSettings = DimseSettings()
    http: HttpSettings = HttpSettings()
    ingest: IngestSettings = IngestSettings()
    settle: SettleSettings = SettleSettings()
    delivery: DeliverySettings = DeliverySettings()
    workers: WorkerSettings = WorkerSettings()
    delete: DeleteSettings = DeleteSettings()
    audit: AuditSettings = AuditSettings()
    log: LogSettings = LogSettings()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Take values from the constructor only; :func:`load_settings` does the reading."""
        return (init_settings,)


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
        return EnvSettingsSource(Settings)()
    except SettingsError as error:
        raise ConfigError("environment", ENVIRONMENT_PREFIX + "*", str(error.__cause__ or error)) from error


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
    return [
        (name, value, f"no such setting; the form is {ENVIRONMENT_PREFIX}SECTION__KEY")
        for name, value in sorted(os.environ.items())
        if name.upper().startswith(ENVIRONMENT_PREFIX) and not name.upper().startswith((*_NOT_SETTINGS, *known))
    ]


def _faults(error: ValidationError) -> list[tuple[str, object, str]]:
    return [
        (
            ".".join(str(part) for part in fault["loc"]),
            fault["input"],
            "no such setting" if fault["type"] == "extra_forbidden" else fault["msg"],
        )
        for fault in error.errors(include_url=False)
    ]


def _config_error(faults: list[tuple[str, object, str]]) -> ConfigError:
    (key, value, message), *others = faults
    lines = [message, *(str(ConfigError(*fault)) for fault in others)]
    return ConfigError(key, value, "\n".join(lines))


def reference_page() -> str:
    """Return the reference page of all settings as Markdown, generated from the models."""
    lines = [
        "# Settings",
        "",
        "<!-- Generated by scripts/generate_reference.py; do not edit. -->",
        "",
        "Values come from, in rising order of weight: the defaults below, a TOML file (`--config FILE`), the",
        "environment (`LEANPACS_SECTION__KEY`, such as `LEANPACS_HTTP__PORT=8081`), command line flags.",
        "Unknown keys are refused, and all faults are reported together, before anything starts. In the",
        "environment, lists are written as JSON.",
    ]
    for name, field in Settings.model_fields.items():
        section = field.annotation
        assert isinstance(section, type)
        assert issubclass(section, BaseModel)
        lines += ["", f"## `[{name}]`", "", (section.__doc__ or "").strip(), ""]
        lines += ["| key | default | meaning |", "| --- | --- | --- |"]
        lines += [_reference_row(key, entry) for key, entry in section.model_fields.items()]
        if section is DimseSettings:
            lines += ["", "### `[dimse.destinations.NAME]`", "", (DestinationSettings.__doc__ or "").strip(), ""]
            lines += ["| key | default | meaning |", "| --- | --- | --- |"]
            lines += [_reference_row(key, entry) for key, entry in DestinationSettings.model_fields.items()]
    return "\n".join(lines) + "\n"


def _reference_row(key: str, field: FieldInfo) -> str:
    if field.is_required() or field.default is None:
        return f"| `{key}` | {'needed' if field.is_required() else 'none'} | {field.description} |"
    value = field.default
    shown = str(value) if isinstance(value, Path | StrEnum) else value
    text = f'"{shown}"' if isinstance(shown, str) else str(list(shown) if isinstance(shown, tuple) else shown)
    return f"| `{key}` | `{text}` | {field.description} |"
