"""The audit trail keeps every event that was acknowledged, whoever writes it."""

from __future__ import annotations

import errno
import multiprocessing
import os
import resource
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leanpacs.audit import AuditAction, AuditEvent, AuditOutcome, AuditTrail
from leanpacs.errors import StorageError, StoreFull, StoreUnavailable

NOON = datetime(2024, 2, 29, 12, tzinfo=UTC)

events = st.builds(
    AuditEvent,
    at=st.datetimes(timezones=st.just(UTC)),
    actor=st.text(),
    action=st.sampled_from(AuditAction),
    outcome=st.sampled_from(AuditOutcome),
    study_uid=st.text("0123456789.", max_size=64),
    detail=st.text(),
)


def event(number: int = 0, detail: str = "") -> AuditEvent:
    at = NOON + timedelta(seconds=number)
    return AuditEvent(at, "cli:test", AuditAction.STORE, AuditOutcome.SUCCESS, sop_uid=f"1.{number}", detail=detail)


@given(events)
def test_one_line_and_back(entry: AuditEvent) -> None:
    line = entry.to_json()
    assert len(line.split("\n")) == 1
    assert AuditEvent.from_json(line) == entry


@pytest.mark.parametrize("line", ["", "{}", "[]", '{"at":1}', '{"at":"2024-01-01T00:00:00+00:00"}', '"x"'])
def test_other_lines_are_no_events(line: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - what json raises is one too
        AuditEvent.from_json(line)


def test_naive_times_are_refused() -> None:
    with pytest.raises(ValueError, match="aware"):
        AuditEvent(datetime(2024, 1, 1), "a", AuditAction.STORE, AuditOutcome.SUCCESS)  # noqa: DTZ001


def test_order_is_kept_over_segments(tmp_path: Path) -> None:
    trail = AuditTrail(tmp_path / "audit", segment_bytes=500)
    written = [event(number) for number in range(40)]
    for entry in written:
        trail.record(entry)
    assert len(trail.segments()) > 5
    assert list(trail.events()) == written
    assert [path.name for path in trail.segments()][:2] == ["audit-000001.jsonl", "audit-000002.jsonl"]


def test_segments_are_sorted_by_number_not_by_name(tmp_path: Path) -> None:
    for number in (999_999, 1_000_000):
        (tmp_path / f"audit-{number:06d}.jsonl").write_text(event(number).to_json() + "\n")
    assert [entry.sop_uid for entry in AuditTrail(tmp_path).events()] == ["1.999999", "1.1000000"]


def test_torn_line_spoils_no_other(tmp_path: Path) -> None:
    trail = AuditTrail(tmp_path)
    trail.record(event(1))
    with trail.current.open("ab") as file:
        file.write(event(2).to_json().encode()[:30])
    trail.record(event(3))
    assert list(trail.events()) == [event(1), event(3)]


def test_threads_do_not_mix_lines(tmp_path: Path) -> None:
    trail = AuditTrail(tmp_path, segment_bytes=4096)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: trail.record(event(number), event(number + 1000)), range(100)))
    assert len(list(trail.events())) == 200
    assert {entry.sop_uid for entry in trail.events()} == {f"1.{n}" for n in [*range(100), *range(1000, 1100)]}


def _write(folder: Path, first: int) -> None:
    trail = AuditTrail(folder, segment_bytes=4096)
    for number in range(first, first + 50):
        trail.record(event(number))


def test_processes_do_not_mix_lines(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_write, args=(tmp_path, first)) for first in (0, 50, 100)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert sorted(int(entry.sop_uid[2:]) for entry in AuditTrail(tmp_path).events()) == list(range(150))


def test_synced_before_it_returns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fdatasync", lambda handle: synced.append(os.fstat(handle).st_size))
    trail = AuditTrail(tmp_path)
    trail.record(event(1), event(2))
    assert synced == [trail.current.stat().st_size]


@pytest.mark.parametrize(("code", "expected"), [(errno.ENOSPC, StoreFull), (errno.EIO, StoreUnavailable)])
def test_what_is_not_written_is_told_and_taken_back(
    code: int, expected: type[StorageError], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trail = AuditTrail(tmp_path)
    trail.record(event(1))
    before = trail.current.read_bytes()

    def fail(handle: int) -> None:
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", fail)
        with pytest.raises(expected) as caught:
            trail.record(event(2))
    assert caught.value.transient
    assert trail.current.read_bytes() == before
    trail.record(event(3))
    assert list(trail.events()) == [event(1), event(3)]


def _write_beyond_limit(folder: Path) -> None:
    trail = AuditTrail(folder)
    trail.record(event(1))
    size = trail.current.stat().st_size
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 10, size + 10))
    try:
        trail.record(event(2))
    except StoreFull:
        os._exit(0)
    os._exit(1)


def test_a_full_disk_leaves_no_half_line(tmp_path: Path) -> None:
    writer = multiprocessing.get_context("spawn").Process(target=_write_beyond_limit, args=(tmp_path,))
    writer.start()
    writer.join()
    assert writer.exitcode == 0
    assert (tmp_path / "audit.jsonl").read_text() == event(1).to_json() + "\n"


def test_only_the_owner_may_read_it(tmp_path: Path) -> None:
    trail = AuditTrail(tmp_path)
    trail.record(event(1))
    assert trail.current.stat().st_mode & 0o077 == 0
