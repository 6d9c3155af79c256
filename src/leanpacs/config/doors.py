"""The doors: DIMSE, HTTP, and other application entities."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from pydantic import Field, IPvAnyNetwork, field_validator, model_validator

from leanpacs.config.access import Role
from leanpacs.config.section import AETitle, Port, Seconds, Section


class DestinationSettings(Section):
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


class DimseSettings(Section):
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
        description="Processes that receive; 0 means one for each CPU core, at most 4. Settling gives way to them.",
    )
    allowed_calling: tuple[AETitle, ...] = Field(
        default=(), description="AE titles that may connect; an empty list lets any."
    )
    allowed_addresses: tuple[IPvAnyNetwork, ...] = Field(
        default=(), description="Networks, such as 192.0.2.0/24, that may connect; an empty list lets any."
    )
    roles: Mapping[AETitle, tuple[Role, ...]] = Field(
        default={},
        description="What each calling AE title may do: 'read' to query and retrieve, 'write' to store. `*` stands for "
        "all others; an empty table lets any do both.",
    )
    insecure: bool = Field(
        default=False,
        description="Whether the door may be open beyond this machine without TLS and certificates of its peers.",
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
    query_headers: bool = Field(
        default=True,
        description="Whether C-FIND matches and returns keys that the catalog does not hold, sequences among them, by "
        "reading headers; without it they are left out, and the status tells so.",
    )
    max_associations: int = Field(
        default=64,
        ge=1,
        le=4096,
        description="Associations that each process holds open at once; more are rejected, as a matter that passes.",
    )
    max_associations_of_one: int = Field(
        default=0,
        ge=0,
        le=4096,
        description="The same for one calling AE title, so that one which opens many leaves room for others; 0: no "
        "such limit.",
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
    restore_wait_seconds: Seconds = Field(
        default=60.0,
        description="How long C-MOVE and C-GET wait, with pending responses, for what is in a tier of kind 'archive'. "
        "What is known to take longer fails at once and is brought back all the same.",
    )
    idle_timeout_seconds: Seconds = Field(
        default=600.0, gt=0, description="An association is aborted when it stays idle for longer."
    )

    @model_validator(mode="after")
    def _tls_is_whole(self) -> Self:
        """A certificate is of no use without its key, nor the other two without a certificate."""
        _require_whole_tls(self)
        return self


class HttpSettings(Section):
    """The HTTP door (DICOMweb, pages, health, metrics)."""

    host: str = Field(default="127.0.0.1", min_length=1, description="Address to listen on.")
    port: Port = Field(default=8080, description="TCP port; 0 takes a free one.")
    processes: int = Field(default=1, ge=1, le=256, description="Processes that answer requests.")
    public_url: str = Field(
        default="",
        pattern=r"^(https?://[^\s/?#]+(/[^\s?#]*)?)?$",
        description="URL by which clients know this server, when a proxy stands in front of it.",
    )
    trusted_proxies: tuple[IPvAnyNetwork, ...] = Field(
        default=(),
        description="Networks, such as 127.0.0.1/32, of proxies: what their Forwarded or X-Forwarded-For, -Proto and "
        "-Host fields say of the client counts, for the audit trail, the traffic ledger, allowed_addresses and URLs.",
    )
    allowed_addresses: tuple[IPvAnyNetwork, ...] = Field(
        default=(), description="Networks, such as 192.0.2.0/24, that may come in; an empty list lets any."
    )
    max_results: int = Field(
        default=1000,
        ge=1,
        le=1_000_000,
        description="Most results of one search; a larger limit is cut to this.",
    )
    cors_origins: tuple[str, ...] = Field(
        default=(),
        description="Origins, such as https://viewer.example, whose pages may use DICOMweb from a browser; `*` is any "
        "origin, but without credentials.",
    )
    deleting: bool = Field(
        default=False, description="Whether studies, series and instances can be deleted by HTTP DELETE."
    )

    @field_validator("cors_origins")
    @classmethod
    def _are_origins(cls, origins: tuple[str, ...]) -> tuple[str, ...]:
        """An origin has no path: one with a slash at its end would never match."""
        for origin in origins:
            if origin != "*" and not re.fullmatch(r"https?://[^\s/?#]+", origin):
                raise ValueError(f"{origin} is not an origin, such as https://viewer.example")
        return origins

    tls_certificate: Path | None = Field(
        default=None, description="PEM file with the certificate of this server; with it the door speaks TLS only."
    )
    tls_key: Path | None = Field(default=None, description="PEM file with the private key of that certificate.")
    tls_client_ca: Path | None = Field(
        default=None,
        description="PEM file of authorities; clients must then show a certificate that one of them issued.",
    )
    insecure: bool = Field(
        default=False,
        description="Whether the door may be open beyond this machine without TLS and credentials.",
    )

    @model_validator(mode="after")
    def _tls_is_whole(self) -> Self:
        """See `DimseSettings`."""
        _require_whole_tls(self)
        return self


def _require_whole_tls(door: DimseSettings | HttpSettings) -> None:
    if (door.tls_certificate is None) != (door.tls_key is None):
        raise ValueError("tls_certificate and tls_key are given together or not at all")
    if door.tls_client_ca is not None and door.tls_certificate is None:
        raise ValueError("tls_client_ca needs tls_certificate and tls_key")
