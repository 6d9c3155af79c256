"""The cache of what was costly to make."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from leanpacs.archive.giveback.cache import DiskCache
from leanpacs.archive.giveback.kept import Kept

KEYS = [f"{number:040x}" for number in range(200)]


def _cache(folder: Path, limit: int = 100_000, free: int = 0) -> DiskCache:
    return DiskCache(folder, limit_bytes=limit, minimum_free_bytes=free)


def _kept(folder: Path, memory: int = 100_000) -> Kept:
    return Kept(_cache(folder), memory_bytes=memory)


def _files(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.glob("*/??/*"))


def test_kept_over_a_restart(tmp_path: Path) -> None:
    first = _cache(tmp_path)
    first.put(KEYS[0], b"costly", 1.0)
    first.put(KEYS[1], b"cheap", 0.0001)
    assert first.get(KEYS[0]) == b"costly"
    other = _cache(tmp_path)  # another process: it has a folder of its own, and reads what the first one has
    assert (other.get(KEYS[0]), other.get(KEYS[1])) == (b"costly", None)
    other.put(KEYS[2], b"theirs", 1.0)
    assert first.get(KEYS[2]) == b"theirs"
    next(tmp_path.glob(f"0/*/{KEYS[0]}.*")).write_bytes(b"damaged")
    assert other.get(KEYS[0]) is None
    assert first.get(KEYS[0]) is None
    first.put(KEYS[0], b"costly", 1.0)
    other.close()
    first.close()
    again = _cache(tmp_path)
    assert again.get(KEYS[0]) == b"costly"


def test_bound_is_kept_and_what_costs_most_for_its_size_stays(tmp_path: Path) -> None:
    cache = _cache(tmp_path)
    for number, key in enumerate(KEYS):
        cache.put(key, bytes(5000), 1.0 if number % 10 == 0 else 0.01)
        assert _files(tmp_path) <= 100_000
    kept = [number for number, key in enumerate(KEYS) if cache.get(key) is not None]
    assert {number for number in kept if number % 10 == 0} >= set(range(60, 200, 10))
    assert len(kept) == 19
    cache.close()
    smaller = _cache(tmp_path, limit=50_000)
    assert sum(smaller.get(key) is not None for key in KEYS) == 9
    assert _files(tmp_path) <= 50_000


def test_old_treasures_do_not_stay_for_ever(tmp_path: Path) -> None:
    cache = _cache(tmp_path)
    cache.put(KEYS[0], bytes(5000), 0.05)
    for _ in range(20):
        for key in KEYS[1:]:
            cache.put(key, bytes(5000), 0.01)
    assert cache.get(KEYS[0]) is None


def test_damage_is_found_and_made_good(tmp_path: Path) -> None:
    cache = _cache(tmp_path)
    cache.put(KEYS[0], b"costly", 1.0)
    (path,) = tmp_path.glob("*/??/*")
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    assert cache.get(KEYS[0]) is None
    (path.parent / "left-over").write_bytes(b"half")
    cache.close()
    assert _cache(tmp_path).get(KEYS[1]) is None
    assert not (path.parent / "left-over").exists()


def test_nothing_is_kept_without_room(tmp_path: Path) -> None:
    for cache in (_cache(tmp_path, free=1 << 62), _cache(tmp_path / "none", limit=0)):
        cache.put(KEYS[0], b"costly", 1.0)
        assert cache.get(KEYS[0]) is None
    assert _files(tmp_path) == 0


def test_a_hundred_who_ask_cost_one_making(tmp_path: Path) -> None:
    cache, made, all_there = _kept(tmp_path), [], threading.Barrier(100)

    def make() -> bytes:
        made.append(1)
        time.sleep(0.05)  # what takes no time is not kept
        return b"costly"

    def ask(_: int) -> bytes:
        all_there.wait(60)
        return cache.fetch(KEYS[0], make)

    with ThreadPoolExecutor(100) as pool:
        answers = [pool.submit(ask, number) for number in range(100)]
        assert {answer.result(60) for answer in answers} == {b"costly"}
    assert made == [1]


def test_failure_is_told_to_all_and_not_kept(tmp_path: Path) -> None:
    cache = _kept(tmp_path)

    def fail() -> bytes:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        cache.fetch(KEYS[0], fail)
    assert cache.fetch(KEYS[0], lambda: b"yes") == b"yes"


def test_what_was_costly_is_on_disk_and_the_rest_in_memory(tmp_path: Path) -> None:
    cache = _kept(tmp_path)
    cache.put(KEYS[0], (b"cost", memoryview(b"ly")), 1.0)
    cache.put(KEYS[1], (b"cheap",), 0.0)
    assert [cache.get(key) for key in KEYS[:3]] == [(b"cost", b"ly"), (b"cheap",), None]
    assert cache.fetch(KEYS[0], bytes) == b"costly"
    assert [cache.has(key) for key in KEYS[:3]] == [True, True, False]
    cache.close()
    again = _kept(tmp_path)
    assert [again.get(key) for key in KEYS[:2]] == [(b"costly",), None]
    again.close()


def test_memory_is_bounded_and_what_was_used_last_stays(tmp_path: Path) -> None:
    cache = _kept(tmp_path, memory=10_000)
    for key in KEYS[:5]:
        cache.put(key, (bytes(1000), bytes(1000)), 0.0)
    assert cache.get(KEYS[0]) is not None
    cache.put(KEYS[5], (bytes(2000),), 0.0)
    cache.put(KEYS[6], (bytes(3000),), 0.0)  # more than its share
    assert [number for number, key in enumerate(KEYS[:7]) if cache.has(key)] == [0, 2, 3, 4, 5]


def test_what_is_too_large_for_memory_is_there_once_for_all_who_hold_it(tmp_path: Path) -> None:
    def fail() -> tuple[bytes, ...]:
        raise AssertionError("made again")

    cache = _kept(tmp_path, memory=1000)
    made = cache.pieces(KEYS[1], lambda: (bytes(5000), b"cheap"))
    assert cache.pieces(KEYS[1], fail) is made
    cache.put(KEYS[0], (b"costly" * 1000,), 1.0)
    cache.close()
    again = _kept(tmp_path, memory=1000)
    first, second = again.pieces(KEYS[0], fail), again.pieces(KEYS[0], fail)
    assert first[0] is second[0]
    assert first[0] == b"costly" * 1000
    del first, second, made
    assert list(again._large) == list(cache._large) == []
    again.close()


def test_what_nobody_asks_for_leaves_the_memory(tmp_path: Path) -> None:
    clock = [0.0]
    cache = Kept(_cache(tmp_path), memory_bytes=100_000, now=lambda: clock[0])
    for key in KEYS[:2]:
        cache.put(key, (b"cheap",), 0.0)
    cache.put(KEYS[2], (b"costly",), 1.0)
    clock[0] = 200.0
    assert cache.get(KEYS[1]) == (b"cheap",)
    clock[0] = 301.0
    cache.forget_unused(300.0)
    assert [cache.at_hand(key) for key in KEYS[:3]] == [False, True, False]
    cache.put(KEYS[3], (bytes(20_000),), 0.0)  # the bound goes by what is there still
    assert cache.at_hand(KEYS[1])
    cache.close()
    again = _kept(tmp_path)
    assert again.get(KEYS[2]) == (b"costly",)  # the disk keeps it
    again.close()
