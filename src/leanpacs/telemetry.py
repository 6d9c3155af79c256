"""The log on standard error, and the metrics that Prometheus reads.

Neither carries names or identifiers of patients: fields of a log entry that could are masked, and the
libraries that print data sets when asked for details are held at warnings.
"""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterable, Mapping, MutableMapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from prometheus_client import Counter, Histogram
    from prometheus_client.core import GaugeMetricFamily

# What the first two log below these levels shows values of elements; the last tells each step it takes.
_QUIET = {"pydicom": logging.ERROR, "pynetdicom": logging.WARNING, "alembic": logging.WARNING}
_MASKED = frozenset(
    ["patient", "patient_name", "patient_id", "patient_birth_date", "accession_number", "other_patient_ids"]
)
# Upper bounds in seconds, each twice the one before: 1 ms to about 65 s.
_BUCKETS = tuple(0.001 * 2**step for step in range(17))
_MULTIPROCESS_FOLDER = "PROMETHEUS_MULTIPROC_DIR"


def configure_logging(*, level: str = "info", format: str = "console") -> None:
    """Send the log of this process to standard error; call it once in each process.

    Both ``structlog.get_logger()`` and ``logging.getLogger(__name__)`` with ``extra`` end in one stream.

    Parameters
    ----------
    level : str
        ``"debug"``, ``"info"``, ``"warning"`` or ``"error"``.
    format : str
        ``"console"`` for people, ``"json"`` for one JSON object on each line.
    """
    import structlog  # it loads what draws boxes in terminals, where that is not kept from it

    shared: list[Callable[..., Any]] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        mask_patients,
    ]
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *_renderers(format)],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name, least in _QUIET.items():
        logging.getLogger(name).setLevel(max(least, root.level))
    warnings.filterwarnings("ignore", module=r"pydicom(\.|$)")
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.PositionalArgumentsFormatter(),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )


def mask_patients(logger: object, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Replace the values of fields that name a patient (a structlog processor)."""
    for name in _MASKED.intersection(event):
        event[name] = "***"
    return event


def _renderers(format: str) -> list[Callable[..., Any]]:
    import structlog

    # Plain tracebacks: the prettier ones print local variables, and those hold data sets.
    if format == "json":
        return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(sort_keys=True)]
    plain = structlog.dev.plain_traceback
    return [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=plain)]


@dataclass(frozen=True, slots=True)
class Gauge:
    """One value that is computed when it is asked for, such as the number of instances held.

    Parameters
    ----------
    name : str
        Without the prefix ``leanpacs_``; with its unit, as in ``stored_bytes``.
    help : str
        One sentence, the same for all gauges of this name.
    value : float
    labels : mapping of str to str
        The same names for all gauges of this name.
    """

    name: str
    help: str
    value: float
    labels: Mapping[str, str] = field(default_factory=dict)


def share_metrics(folder: Path) -> None:
    """Let the metrics of this process and of those it starts add up, by way of files in ``folder``.

    Processes have these files mapped into memory: should the disk be full on which they are, the system would end every
    process that counts something. A folder in memory is better.

    Call it in the first process, before any :class:`Metrics` is made: the Prometheus library decides when it
    is imported, by an environment variable. What an earlier run left in ``folder`` is removed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for leftover in folder.glob("*.db"):
        leftover.unlink()
    os.environ[_MULTIPROCESS_FOLDER] = str(folder)


class Metrics:
    """Counters and histograms of one process, in a registry of their own.

    What is held (instances, bytes, backlog) is not counted here: it is read from the catalog when Prometheus
    asks, and handed to :meth:`exposition`, so that it is right whatever was restarted.
    """

    def __init__(self) -> None:
        # Imported here because share_metrics must come first.
        from prometheus_client import CollectorRegistry, Counter, Histogram, values

        if _MULTIPROCESS_FOLDER in os.environ and not values.ValueClass._multiprocess:
            raise RuntimeError("share_metrics was called after the Prometheus library had been imported")
        self._registry = registry = CollectorRegistry()

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"leanpacs_{name}", text, labels, registry=registry)

        def seconds(name: str, text: str, *labels: str) -> Histogram:
            return Histogram(f"leanpacs_{name}_seconds", text, labels, buckets=_BUCKETS, registry=registry)

        self.received = counter("received_instances", "Instances received.", "door", "outcome")
        self.received_bytes = counter("received_bytes", "Bytes of the instances received.", "door")
        self.land_seconds = seconds("land", "From a complete instance to its acknowledgement.", "door")
        self.settled = counter("settled_instances", "Instances settled.", "codec")
        self.settled_raw_bytes = counter("settled_raw_bytes", "What was settled, as received.", "codec")
        self.settled_stored_bytes = counter("settled_stored_bytes", "What was settled, as stored.", "codec")
        self.settle_seconds = seconds("settle", "To encode, decode back, compare and pack.", "codec")
        self.associations = counter("dimse_associations", "DIMSE associations.", "outcome")
        self.dimse_seconds = seconds("dimse", "To answer a DIMSE request.", "operation", "status")
        what = ("direction", "protocol", "modality", "transfer_syntax")
        self.traffic_bytes = counter("traffic_bytes", "Bytes that went over the lines.", *what)
        self.traffic_raw_bytes = counter("traffic_raw_bytes", "What they would have been without compression.", *what)
        self.http_seconds = seconds("http", "To the end of an HTTP answer.", "route", "status")

    def exposition(self, gauges: Iterable[Gauge] = ()) -> bytes:
        """Everything in the Prometheus text format, summed over all processes that share their metrics."""
        from prometheus_client import CollectorRegistry, generate_latest
        from prometheus_client.multiprocess import MultiProcessCollector

        registry = self._registry
        if _MULTIPROCESS_FOLDER in os.environ:
            registry = CollectorRegistry()
            MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        return generate_latest(registry) + _gauge_text(gauges)


def _gauge_text(gauges: Iterable[Gauge]) -> bytes:
    from prometheus_client import generate_latest
    from prometheus_client.core import GaugeMetricFamily

    families: dict[str, GaugeMetricFamily] = {}
    for gauge in gauges:
        family = families.setdefault(
            gauge.name, GaugeMetricFamily(f"leanpacs_{gauge.name}", gauge.help, labels=list(gauge.labels))
        )
        family.add_metric(list(gauge.labels.values()), gauge.value)
    return generate_latest(_Collected(families.values()))


class _Collected:
    """Families that are ready, as the library wants to be handed them."""

    def __init__(self, families: Iterable[GaugeMetricFamily]) -> None:
        self._families = list(families)

    def collect(self) -> list[GaugeMetricFamily]:
        return self._families
