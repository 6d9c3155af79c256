"""What the page shows, as text and lengths: figures made ready for the template."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from leanpacs.archive.status import ArchiveStatus
    from leanpacs.catalog.found import StudyRow
    from leanpacs.catalog.rows import Share

_UNITS: Final = ("bytes", "kB", "MB", "GB", "TB", "PB")
_MOST_BARS: Final = 16
_NO_NAME: Final = "none"


@dataclass(frozen=True, slots=True)
class Bar:
    """One line of a chart: raw against stored.

    Attributes
    ----------
    name : str
        What it is of.
    instances : str
        How many.
    raw, stored : str
        Sizes, with units.
    ratio : str
        Stored as a percentage of raw, '' when there is nothing to compare.
    raw_length, stored_length : float
        Lengths in percent of the longest bar.
    """

    name: str
    instances: str
    raw: str
    stored: str
    ratio: str
    raw_length: float
    stored_length: float


@dataclass(frozen=True, slots=True)
class StudyLine:
    """One study in the list of the newest."""

    uid: str
    patient: str
    date: str
    modalities: str
    description: str
    series: str
    instances: str
    received: str


@dataclass(frozen=True, slots=True)
class View:
    """All figures of the page."""

    total: Bar
    studies: str
    series: str
    patients: str
    by_modality: tuple[Bar, ...]
    by_codec: tuple[Bar, ...]
    parts: tuple[Bar, ...]
    backlog: str
    backlog_instances: int
    quarantined: int
    free: str
    newest: tuple[StudyLine, ...]


def view(status: ArchiveStatus, newest: Iterable[StudyRow], now: datetime | None = None) -> View:
    """Make the figures ready.

    Parameters
    ----------
    status : ArchiveStatus
        What is held.
    newest : iterable of StudyRow
        The studies to list, in their order.
    now : datetime, optional
        Aware; for the age of things.
    """
    now = now or datetime.now(UTC)
    summary = status.summary
    total = summary.total
    return View(
        total=_bar("all", total.instances, total.raw_bytes, total.stored_bytes, total.raw_bytes),
        studies=number(summary.studies),
        series=number(summary.series),
        patients=number(summary.patients),
        by_modality=_bars(summary.by_modality),
        by_codec=_bars(summary.by_codec),
        parts=_parts(total),
        backlog=_backlog(status, now),
        backlog_instances=status.backlog.count,
        quarantined=status.quarantined,
        free=size(status.free_bytes) if status.free_bytes is not None else "",
        newest=tuple(_study(study, now) for study in newest),
    )


def size(size_bytes: int) -> str:
    """Write a size with three digits and a unit of 1000, as in ``1.23 GB``."""
    value, unit = float(size_bytes), 0
    while value >= 999.5 and unit < len(_UNITS) - 1:
        value, unit = value / 1000, unit + 1
    digits = 0 if unit == 0 or value >= 99.95 else 1 if value >= 9.995 else 2
    return f"{value:.{digits}f} {_UNITS[unit]}"


def number(count: int) -> str:
    """Write a number with thin spaces between thousands."""
    return f"{count:,}".replace(",", "\u2009")


def ratio(stored: int, raw: int) -> str:
    """Write stored as a percentage of raw; '' when there is no raw."""
    return f"{100 * stored / raw:.1f}\u2009%" if raw else ""


def ago(moment: datetime, now: datetime) -> str:
    """Write how long ago a moment was."""
    seconds = (now - moment).total_seconds()
    for limit, length, unit in ((120, 1, "s"), (7200, 60, "min"), (172_800, 3600, "h")):
        if seconds < limit:
            return f"{max(int(seconds // length), 0)}\u2009{unit} ago"
    return f"{int(seconds // 86_400)} days ago"


def _bars(shares: Sequence[Share]) -> tuple[Bar, ...]:
    """Bars for the largest shares, and one for all the others."""
    ordered = sorted(shares, key=lambda share: -share.raw_bytes)
    rows = [(s.name or _NO_NAME, s.instances, s.raw_bytes, s.stored_bytes) for s in ordered]
    if len(rows) > _MOST_BARS:
        kept, others = rows[: _MOST_BARS - 1], rows[_MOST_BARS - 1 :]
        sums = (sum(row[column] for row in others) for column in (1, 2, 3))  # type: ignore[misc]
        rows = [*kept, (f"{len(others)} others", *sums)]  # type: ignore[list-item]
    longest = max((max(raw, stored) for _, _, raw, stored in rows), default=0)
    return tuple(_bar(*row, longest) for row in rows)


def _parts(total: Share) -> tuple[Bar, ...]:
    rows = (
        ("frames", total.raw_frame_bytes, total.stored_frame_bytes),
        ("heads", total.raw_head_bytes, total.stored_head_bytes),
    )
    longest = max(max(raw, stored) for _, raw, stored in rows)
    return tuple(_bar(name, 0, raw, stored, longest) for name, raw, stored in rows) if longest else ()


def _bar(name: str, instances: int, raw: int, stored: int, longest: int) -> Bar:
    scale = 100 / longest if longest else 0.0
    return Bar(
        name,
        number(instances),
        size(raw),
        size(stored),
        ratio(stored, raw),
        round(raw * scale, 2),
        round(stored * scale, 2),
    )


def _backlog(status: ArchiveStatus, now: datetime) -> str:
    backlog = status.backlog
    if not backlog.count:
        return "nothing"
    since = f", oldest {ago(backlog.oldest, now)}" if backlog.oldest else ""
    return f"{number(backlog.count)} ({size(backlog.size_bytes)}){since}"


def _study(study: StudyRow, now: datetime) -> StudyLine:
    return StudyLine(
        study.study_uid,
        _name(study.patient.patient_name) or study.patient.patient_id,
        _date(study.study.study_date),
        " ".join(study.modalities),
        study.study.study_description,
        number(study.number_of_series),
        number(study.number_of_instances),
        ago(study.received_at, now),
    )


def _name(text: str) -> str:
    """Person name for people: the first group that is there, family name first (PS3.5 6.2.1)."""
    group = next((group for group in text.split("=") if group.strip("^ ")), "")
    family, *others = (part.strip() for part in group.split("^"))
    given = " ".join(part for part in others if part)
    return f"{family}, {given}" if family and given else family or given


def _date(text: str) -> str:
    """Write a DICOM date as ISO 8601; as it is when it is none."""
    digits = text.replace(".", "")
    return f"{digits[:4]}-{digits[4:6]}-{digits[6:]}" if len(digits) == 8 and digits.isdigit() else text
