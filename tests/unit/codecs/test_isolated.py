"""Worker processes for frames: each call has the time and the memory that a frame of its size may need."""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

import pytest

from leanpacs.codecs.isolated import FUZZED_CLEAN, FrameWorkers
from leanpacs.codecs.registry import for_transfer_syntax
from leanpacs.dicom.frames import FrameSpec

MB = 1 << 20


class Recorder:
    """Stands for the pool."""

    def submit(self, function: Any, *args: Any, **limits: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_result((args, limits))
        return future


@dataclass
class Task:
    spec: FrameSpec


def spec(rows: int, columns: int) -> FrameSpec:
    return FrameSpec(rows, columns, 1, 16, 16, 15, 0, 0, "MONOCHROME2", 1)


def limits(argument: object) -> dict[str, float]:
    workers = FrameWorkers(Recorder(), memory_limit_bytes=4096 * MB, time_limit_seconds=300)  # type: ignore[arg-type]
    args, given = workers.submit(abs, "first", argument).result()
    assert args == ("first", argument)
    return given


def test_small_frames_get_little() -> None:
    given = limits(spec(512, 512))
    assert 30 <= given["time_limit_seconds"] < 40
    assert 256 * MB <= given["memory_limit_bytes"] < 300 * MB


def test_larger_frames_get_more() -> None:
    small, large = limits(spec(512, 512)), limits(spec(4096, 4096))
    assert large["time_limit_seconds"] > small["time_limit_seconds"]
    assert large["memory_limit_bytes"] >= small["memory_limit_bytes"] + 20 * 32 * MB


@pytest.mark.parametrize("side", [65_535, 4_000_000])
def test_what_a_frame_declares_does_not_lift_the_limits_of_the_pool(side: int) -> None:
    assert limits(spec(side, side)) == {"time_limit_seconds": 300, "memory_limit_bytes": 4096 * MB}


def test_tasks_have_their_frame_with_them() -> None:
    assert limits(Task(spec(512, 512))) == limits(spec(512, 512))


def test_other_calls_have_the_limits_of_the_pool() -> None:
    assert limits("no frame") == {}


def test_what_is_decoded_in_the_same_process_can_be_decoded() -> None:
    assert all(for_transfer_syntax(uid) is not None for uid in FUZZED_CLEAN)
