"""All settings of one archive."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import BaseModel, ConfigDict, Field, field_validator

from leanpacs.config.access import AccessSettings, OidcSettings
from leanpacs.config.ageing import ExecutorSettings, LifecycleSettings
from leanpacs.config.catalog import CatalogSettings
from leanpacs.config.doors import DimseSettings, HttpSettings
from leanpacs.config.forwarding import ForwardRule, OutboxSettings, WorklistSettings
from leanpacs.config.keeping import (
    DeleteSettings,
    DeliverySettings,
    IngestSettings,
    SettleSettings,
    StorageSettings,
    WorkerSettings,
)
from leanpacs.config.tiers import TierName, TierSettings
from leanpacs.config.traffic import TrafficSettings
from leanpacs.config.viewing import ViewerSettings
from leanpacs.config.watching import AuditSettings, LogSettings


class Settings(BaseModel):
    """All settings of one archive. Constructing it reads neither files nor the environment."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    storage: StorageSettings = StorageSettings()
    tiers: Mapping[TierName, TierSettings] = Field(default={}, validate_default=True)
    catalog: CatalogSettings = CatalogSettings()
    dimse: DimseSettings = DimseSettings()
    http: HttpSettings = HttpSettings()
    access: AccessSettings = AccessSettings()
    oidc: OidcSettings = OidcSettings()
    viewer: ViewerSettings = ViewerSettings()
    ingest: IngestSettings = IngestSettings()
    settle: SettleSettings = SettleSettings()
    delivery: DeliverySettings = DeliverySettings()
    workers: WorkerSettings = WorkerSettings()
    delete: DeleteSettings = DeleteSettings()
    lifecycle: LifecycleSettings = LifecycleSettings()
    executor: ExecutorSettings = ExecutorSettings()
    outbox: OutboxSettings = OutboxSettings()
    forward: tuple[ForwardRule, ...] = ()
    worklist: WorklistSettings = WorklistSettings()
    traffic: TrafficSettings = TrafficSettings()
    audit: AuditSettings = AuditSettings()
    log: LogSettings = LogSettings()

    @field_validator("tiers")
    @classmethod
    def _copies_have_a_tier(cls, tiers: Mapping[str, TierSettings]) -> Mapping[str, TierSettings]:
        """Copies go to other tiers of these settings; ``hot`` is always there."""
        for name, tier in tiers.items():
            for copy in tier.copies:
                if copy == name or copy not in {"hot", *tiers}:
                    raise ValueError(f"{name}.copies: {copy!r} is no other tier")
        return tiers
