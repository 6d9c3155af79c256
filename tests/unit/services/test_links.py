"""How fast a line is, from when writes had to wait."""

from __future__ import annotations

from typing import Any

import pytest

from leanpacs.config import SiteSettings
from leanpacs.services.ledger import Sites
from leanpacs.services.links import Flow, Links, link_of

MB = 1 << 20


def flow(*writes: tuple[int, float, float]) -> Flow:
    """Writes of so many bytes, from then to then."""
    made = Flow()
    for write in writes:
        made.wrote(*write)
    return made


def scope(address: str) -> dict[str, Any]:
    return {"type": "http", "client": (address, 1)}


def known(links: Links, address: str) -> float | None:
    asked = scope(address)
    links.tell(asked)
    return link_of(asked)


def slow(megabytes_a_second: float) -> Flow:
    """Four MB go into buffers at once, then each MB takes its time; the making of one takes long, too."""
    buffered = [(MB, 0.0, 0.0)] * 4
    return flow(*buffered, *((MB, n / megabytes_a_second - 0.1, n / megabytes_a_second) for n in range(1, 9)))


def test_bytes_after_the_buffers_are_full_tell_the_speed() -> None:
    assert slow(2.0).speed() == pytest.approx(2 * MB)


def test_short_answers_and_lines_that_take_all_at_once_tell_nothing_or_a_bound() -> None:
    assert flow((MB, 0.0, 0.0)).speed() is None
    assert flow((MB, 0.0, 0.5), (1000, 0.5, 1.0)).speed() is None
    fast = flow(*[(MB, 0.0, 0.0)] * 9)
    assert fast.never_waited
    assert (fast.speed() or 0) > MB


def test_speeds_are_smoothed_by_address_and_few_are_kept() -> None:
    links = Links()
    assert known(links, "192.0.2.1") is None
    links.note(scope("192.0.2.1"), slow(2.0))
    assert known(links, "192.0.2.1") == pytest.approx(2 * MB)
    assert known(links, "192.0.2.2") is None
    links.note(scope("192.0.2.1"), slow(4.0))
    assert 2 * MB < (known(links, "192.0.2.1") or 0) < 4 * MB
    links.note(scope("192.0.2.1"), flow((10, 0.0, 0.0)))
    assert known(links, "192.0.2.1") is not None
    for number in range(5000):
        links.note(scope(f"10.0.{number // 250}.{number % 250}"), slow(1.0))
    assert known(links, "192.0.2.1") is None


def test_a_line_that_never_waits_only_raises_what_is_known() -> None:
    links = Links()
    links.note(scope("192.0.2.1"), slow(1e6))
    links.note(scope("192.0.2.1"), flow(*[(MB, 0.0, 0.0)] * 9))
    assert (known(links, "192.0.2.1") or 0) >= 0.99e6 * MB


def test_what_the_settings_say_of_a_site_goes_first() -> None:
    site = SiteSettings(addresses=("192.0.2.0/24",))
    links = Links(Sites({"far": site, "near": SiteSettings(addresses=("198.51.100.0/24",))}), {"far": 5.0, "near": 0.0})
    assert known(links, "192.0.2.7") == 625_000
    links.note(scope("192.0.2.7"), slow(50.0))
    assert known(links, "192.0.2.7") == 625_000
    assert known(links, "198.51.100.1") is None
