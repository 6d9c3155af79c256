"""Settings: frozen models built from defaults, a TOML file, the environment and command line flags.

Only the command line loads them (:func:`leanpacs.config.loading.load_settings`); everything else is handed the part
it needs.
"""

from leanpacs.config.access import ALL_ROLES, AccessSettings, OidcSettings, Role
from leanpacs.config.ageing import ExecutorKind, ExecutorSettings, LifecycleSettings
from leanpacs.config.catalog import CatalogSettings
from leanpacs.config.doors import DestinationSettings, DimseSettings, HttpSettings
from leanpacs.config.forwarding import ForwardRule, OutboxSettings, WorklistSettings
from leanpacs.config.keeping import (
    DeleteSettings,
    DeliverySettings,
    DuplicatePolicy,
    IngestSettings,
    SettleSettings,
    StorageSettings,
    WorkerSettings,
)
from leanpacs.config.settings import Settings
from leanpacs.config.tiers import TierSettings
from leanpacs.config.traffic import SiteSettings, TrafficSettings
from leanpacs.config.viewing import ViewerSettings
from leanpacs.config.watching import AuditSettings, LogSettings

__all__ = [
    "ALL_ROLES",
    "AccessSettings",
    "AuditSettings",
    "CatalogSettings",
    "DeleteSettings",
    "DeliverySettings",
    "DestinationSettings",
    "DimseSettings",
    "DuplicatePolicy",
    "ExecutorKind",
    "ExecutorSettings",
    "ForwardRule",
    "HttpSettings",
    "IngestSettings",
    "LifecycleSettings",
    "LogSettings",
    "OidcSettings",
    "OutboxSettings",
    "Role",
    "Settings",
    "SettleSettings",
    "SiteSettings",
    "StorageSettings",
    "TierSettings",
    "TrafficSettings",
    "ViewerSettings",
    "WorkerSettings",
    "WorklistSettings",
]
