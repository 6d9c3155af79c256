"""What is held, in which forms and where: the only part that speaks SQL. It never opens a blob.

What speaks SQL is imported when it is first asked for (PEP 562): workers, which make and prove packs, know the plain
values alone, and SQLAlchemy would be half of their start.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Final

from leanpacs.catalog.forms import (
    Evidence,
    Fidelity,
    FrameTable,
    Kind,
    NewRepresentation,
    RepresentationRow,
    RestoreRow,
    Span,
)
from leanpacs.catalog.found import FoundInstance, PatientRow, SeriesRow, StudyRow
from leanpacs.catalog.matching import AnyOf, Between, Match, Universal, Wildcard, parse_match
from leanpacs.catalog.rows import (
    DERIVED,
    Action,
    Arrival,
    Backlog,
    Change,
    DayOfArrivals,
    Deleted,
    DictionaryRow,
    DuplicateInstance,
    InstanceRow,
    Landed,
    LandedWork,
    Landing,
    QuarantineRow,
    Share,
    Summary,
    TombstoneRow,
)

if TYPE_CHECKING:
    from leanpacs.catalog.catalog import Catalog, open_catalog
    from leanpacs.catalog.engine import Pool
    from leanpacs.catalog.keys import KeyRow
    from leanpacs.catalog.outgoing import CommitmentRow, DestinationRow, Outbound, OutboxRow, Outgoing
    from leanpacs.catalog.query import Query, matchable
    from leanpacs.catalog.replacing import Swap
    from leanpacs.catalog.traffic import TrafficKey, Volume
    from leanpacs.catalog.transaction import Transaction

__all__ = [
    "DERIVED",
    "Action",
    "AnyOf",
    "Arrival",
    "Backlog",
    "Between",
    "Catalog",
    "Change",
    "CommitmentRow",
    "DayOfArrivals",
    "Deleted",
    "DestinationRow",
    "DictionaryRow",
    "DuplicateInstance",
    "Evidence",
    "Fidelity",
    "FoundInstance",
    "FrameTable",
    "InstanceRow",
    "KeyRow",
    "Kind",
    "Landed",
    "LandedWork",
    "Landing",
    "Match",
    "NewRepresentation",
    "Outbound",
    "OutboxRow",
    "Outgoing",
    "PatientRow",
    "Pool",
    "QuarantineRow",
    "Query",
    "RepresentationRow",
    "RestoreRow",
    "SeriesRow",
    "Share",
    "Span",
    "StudyRow",
    "Summary",
    "Swap",
    "TombstoneRow",
    "TrafficKey",
    "Transaction",
    "Universal",
    "Volume",
    "Wildcard",
    "matchable",
    "open_catalog",
    "parse_match",
]

if not TYPE_CHECKING:  # or else mypy would take any name for one of these
    _HOMES: Final = {
        "Catalog": "catalog",
        "CommitmentRow": "outgoing",
        "DestinationRow": "outgoing",
        "KeyRow": "keys",
        "Outbound": "outgoing",
        "OutboxRow": "outgoing",
        "Outgoing": "outgoing",
        "Pool": "engine",
        "Query": "query",
        "Swap": "replacing",
        "TrafficKey": "traffic",
        "Transaction": "transaction",
        "Volume": "traffic",
        "matchable": "query",
        "open_catalog": "catalog",
    }

    def __getattr__(name: str) -> object:
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
        globals()[name] = value
        return value
