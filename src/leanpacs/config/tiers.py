"""Tiers: further stores for what need not be on the fastest disk."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, SecretStr, model_validator

from leanpacs.config.section import Seconds, Section

TierName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,31}$")]


_S3_URL = r"s3://[a-z0-9][a-z0-9.-]{1,62}(/[^\s?#]*)?"
ARCHIVE_CLASSES = ("GLACIER", "DEEP_ARCHIVE")
"""Storage classes of S3 whose objects must be asked for before they can be read."""


class TierSettings(Section):
    """A store of its own; the name of its table is the name of the tier.

    The tier ``hot`` is a folder of ``storage.data`` unless there is a table for it.
    """

    kind: Literal["local", "s3", "archive"] = Field(
        description="'local': a folder; 's3': a bucket of S3 or of what speaks as S3 does; 'archive': one of both, in "
        "which blobs must be asked for before they can be read."
    )
    url: str = Field(min_length=1, description="Where it is: the path of a folder, or 's3://BUCKET/PREFIX'.")
    endpoint: str = Field(
        default="",
        pattern=r"^(https?://[^\s/?#]+/?)?$",
        description="URL of the S3 server; by default that of the region. With http:// all of it goes in the clear.",
    )
    region: str = Field(default="us-east-1", min_length=1, description="Region of the bucket.")
    access_key_id: str = Field(
        default="", description="Credentials for S3; by default those of AWS_* or of the machine's role."
    )
    secret_access_key: SecretStr = Field(default=SecretStr(""), description="The secret of that key.")
    encryption: Literal["", "AES256", "aws:kms", "aws:kms:dsse"] = Field(
        default="", description="Server-side encryption of what is stored; by default as the bucket has it."
    )
    kms_key: str = Field(default="", description="Key for 'aws:kms' and 'aws:kms:dsse'; by default the account's own.")
    storage_class: str = Field(
        default="", description="Storage class of what is stored, such as STANDARD_IA; by default that of the bucket."
    )
    virtual_hosts: bool = Field(
        default=False, description="Whether the bucket's name is part of the host name (endpoint then names both)."
    )
    ca: Path | None = Field(
        default=None, description="PEM file of the authority that the S3 server's certificate comes from."
    )
    retries: int = Field(default=6, ge=0, le=100, description="How often a request is repeated that may succeed later.")
    retry_seconds: Seconds = Field(default=60.0, description="For how long at most it is repeated.")
    idle_seconds: Seconds = Field(
        default=30.0, gt=0, description="A request fails when the server says nothing for longer."
    )
    copies: tuple[str, ...] = Field(
        default=(), description="Other tiers that must hold a copy of all that is moved to this one."
    )

    restore_seconds: Seconds = Field(
        default=0.0,
        description="Kind 'archive', unless storage_class is GLACIER or DEEP_ARCHIVE: how long it takes until a blob "
        "can be read that was asked for. For trials, and for media that need a while.",
    )
    restore_days: int = Field(
        default=7, ge=1, le=3650, description="For how many days what was brought back from 'archive' stays readable."
    )
    restore_speed: Literal["Expedited", "Standard", "Bulk"] = Field(
        default="Standard", description="How fast, and at what price, S3 restores from GLACIER and DEEP_ARCHIVE."
    )
    offline: bool = Field(
        default=False,
        description="Kind 'archive': somebody has to do something before a blob can be read (Instance Availability "
        "OFFLINE instead of NEARLINE).",
    )

    @property
    def is_s3(self) -> bool:
        """Whether the url names a bucket."""
        return self.url.startswith("s3://")

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if (self.kind == "s3" or self.is_s3) and not re.fullmatch(_S3_URL, self.url):
            raise ValueError("url of kind 's3' has the form s3://BUCKET/PREFIX")
        if self.kind != "archive" and self.storage_class in ARCHIVE_CLASSES:
            raise ValueError(f"storage_class {self.storage_class} needs kind = 'archive'")
        if (self.storage_class, self.restore_speed) == ("DEEP_ARCHIVE", "Expedited"):
            raise ValueError("restore_speed: DEEP_ARCHIVE knows Standard and Bulk only")
        if bool(self.access_key_id) != bool(self.secret_access_key.get_secret_value()):
            raise ValueError("access_key_id and secret_access_key are given together or not at all")
        if self.kms_key and not self.encryption.startswith("aws:kms"):
            raise ValueError("kms_key needs encryption = 'aws:kms' or 'aws:kms:dsse'")
        return self

    @model_validator(mode="after")
    def _copies_are_elsewhere(self) -> Self:
        if len(set(self.copies)) != len(self.copies):
            raise ValueError("copies names a tier twice")
        return self
