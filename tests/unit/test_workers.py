"""Worker processes: what happens to one is felt by the call that it ran, and by nobody else."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import CancelledError, Future, wait
from pathlib import Path

import numpy as np
import pytest

import hazards
from leanpacs.errors import WorkerCrashed, WorkerError, WorkerOutOfMemory, WorkerTimeout
from leanpacs.workers import WorkerPool
from leanpacs.workers.process import exit_code
from processes import await_end, is_there

MB = 1_000_000


@pytest.fixture
def pool() -> Iterator[WorkerPool]:
    with WorkerPool(2, memory_limit_bytes=300 * MB, time_limit_seconds=60) as pool:
        yield pool


def test_calls_run_in_other_processes(pool: WorkerPool) -> None:
    assert pool.submit(hazards.pid).result() != os.getpid()
    assert pool.submit(hazards.keywords, 1, two=2).result() == ((1,), {"two": 2})
    assert list(pool.map(hazards.echo, range(20))) == list(range(20))


def test_no_more_processes_than_asked_for(pool: WorkerPool) -> None:
    pids = {future.result() for future in [pool.submit(hazards.pid) for _ in range(30)]}
    assert len(pids) <= 2


@pytest.mark.parametrize("size", [0, 10, 1 << 15, (1 << 15) + 1, 5 * MB])
def test_bytes_and_arrays_come_back_equal(pool: WorkerPool, size: int) -> None:
    array = hazards.made(size)
    value = {"bytes": array.tobytes(), "array": array, "both": [array[::2], array.tobytes(), array.reshape(1, -1)]}
    back = pool.submit(hazards.echo, value).result()
    assert back["bytes"] == value["bytes"]
    assert type(back["bytes"]) is bytes
    assert np.array_equal(back["array"], array)
    assert [np.array_equal(a, b) for a, b in zip(back["both"], value["both"], strict=True)] == [True] * 3


def test_results_do_not_change_with_the_next_call(pool: WorkerPool) -> None:
    first = pool.submit(hazards.made, 3 * MB).result()
    expected = first.copy()
    pool.submit(hazards.echo, bytes(9 * MB)).result()
    first[0] += 0  # they may be written to
    assert np.array_equal(first, expected)


def test_large_messages_leave_nothing_behind(pool: WorkerPool) -> None:
    array = hazards.made(30 * MB)
    for _ in range(5):
        pool.submit(hazards.echo, array).result()
    before = pool.submit(hazards.retained).result()
    for _ in range(20):
        pool.submit(hazards.echo, array).result()
    assert pool.submit(hazards.retained).result() < before + 100 * MB


def test_errors_come_back_with_the_traceback_of_the_worker(pool: WorkerPool) -> None:
    error = pool.submit(hazards.fail, "what was wrong").exception()
    assert type(error) is LookupError
    assert error.args == ("what was wrong",)
    assert "in fail" in error.__notes__[0]


def test_errors_that_cannot_travel_are_told(pool: WorkerPool) -> None:
    error = pool.submit(hazards.fail_awkwardly).exception()
    assert type(error) is RuntimeError
    assert "Awkward: onetwo" in str(error)


def test_results_that_cannot_be_pickled_fail_alone(pool: WorkerPool) -> None:
    pid = {future.result() for future in [pool.submit(hazards.pid) for _ in range(8)]}
    with pytest.raises(TypeError, match="pickle"):
        pool.submit(hazards.unpicklable).result()
    with pytest.raises(TypeError, match="pickle"):
        pool.submit(hazards.echo, threading.Lock()).result()
    assert pool.submit(hazards.pid).result() in pid


def lost(pool: WorkerPool, call: object, *args: object, **limits: float) -> BaseException | None:
    """The error of a call between others, which all end well."""
    before = [pool.submit(hazards.nap, 0.05) for _ in range(4)]
    harmful = pool.submit(call, *args, **limits)
    after: list[Future[float]] = [pool.submit(hazards.nap, 0.05) for _ in range(8)]
    assert [future.result() for future in before + after] == [0.05] * 12
    return harmful.exception()


def test_a_crash_fails_one_call(pool: WorkerPool) -> None:
    error = lost(pool, hazards.segmentation_fault)
    assert isinstance(error, WorkerCrashed)
    assert "SIGSEGV" in str(error)
    assert error.task == "segmentation_fault"


def test_an_end_with_a_status_is_a_crash(pool: WorkerPool) -> None:
    assert "status 3" in str(lost(pool, hazards.end, 3))


def test_a_call_that_hangs_is_ended(pool: WorkerPool, tmp_path: Path) -> None:
    error = lost(pool, hazards.hang, tmp_path / "pid", time_limit_seconds=1.5)
    assert isinstance(error, WorkerTimeout)
    assert error.limit_seconds == 1.5
    await_end(int((tmp_path / "pid").read_text()))


def test_a_call_that_allocates_too_much_fails(pool: WorkerPool) -> None:
    assert pool.submit(hazards.grow, 100 * MB).result() == 100 * MB
    error = lost(pool, hazards.grow, 400 * MB)
    assert isinstance(error, WorkerOutOfMemory)
    assert error.limit_bytes == 300 * MB


def test_the_limit_may_be_another_for_one_call(pool: WorkerPool) -> None:
    assert isinstance(lost(pool, hazards.grow, 100 * MB, memory_limit_bytes=50 * MB), WorkerOutOfMemory)
    assert pool.submit(hazards.grow, 400 * MB, memory_limit_bytes=900 * MB).result() == 400 * MB
    assert isinstance(lost(pool, hazards.grow, 400 * MB), WorkerOutOfMemory)


def test_memory_that_the_kernel_does_not_limit_is_watched(pool: WorkerPool) -> None:
    assert isinstance(lost(pool, hazards.grow_shared, 900 * MB), WorkerOutOfMemory)


def test_an_answer_that_cannot_be_read_is_a_crash(pool: WorkerPool) -> None:
    error = lost(pool, hazards.write_over_answer)
    assert isinstance(error, WorkerCrashed)
    assert "cannot be read" in str(error)


def test_a_worker_that_dies_between_calls_is_replaced() -> None:
    with WorkerPool(1, memory_limit_bytes=300 * MB, time_limit_seconds=60) as pool:
        first = pool.submit(hazards.pid).result()
        os.kill(first, signal.SIGKILL)
        await_end(first)
        assert pool.submit(hazards.pid).result() != first


def test_idle_workers_end_after_a_while_but_one(tmp_path: Path) -> None:
    with WorkerPool(3, memory_limit_bytes=300 * MB, time_limit_seconds=60, idle_seconds=0.5) as pool:
        calls = [pool.submit(hazards.meet, tmp_path, 3) for _ in range(3)]
        pids = {call.result() for call in calls}
        assert len(pids) == 3
        deadline = time.monotonic() + 60
        while sum(map(is_there, pids)) > 1:
            assert time.monotonic() < deadline, "idle workers are still there"
            time.sleep(0.05)
        last = pool.submit(hazards.pid).result()
        assert last in pids  # the one that is left goes on
        assert {pool.submit(hazards.pid).result() for _ in range(5)} == {last}
        assert list(pool.map(hazards.echo, range(9))) == list(range(9))


def test_many_losses_at_once(pool: WorkerPool) -> None:
    harmful = [pool.submit(hazards.end, 1) for _ in range(6)]
    good = [pool.submit(hazards.echo, number) for number in range(6)]
    assert all(isinstance(future.exception(), WorkerCrashed) for future in harmful)
    assert [future.result() for future in good] == list(range(6))


def test_workers_are_set_up() -> None:
    with WorkerPool(
        1, memory_limit_bytes=300 * MB, time_limit_seconds=60, nice=3, initializer=hazards.import_fractions
    ) as pool:
        assert pool.submit(hazards.imported).result()
        assert pool.submit(hazards.niceness).result() == min(19, os.nice(0) + 3)
        assert pool.submit(hazards.interrupt_parent_group_handler).result() == signal.SIG_IGN


def test_an_initializer_that_fails_fails_the_calls() -> None:
    with WorkerPool(1, memory_limit_bytes=300 * MB, time_limit_seconds=60, initializer=hazards.cannot_start) as pool:
        with pytest.raises(WorkerError, match="starting a worker"):
            pool.submit(hazards.pid).result()
        with pytest.raises(WorkerError, match="starting a worker"):
            pool.submit(hazards.pid).result()


@pytest.mark.parametrize("waits", [True, False])
def test_shutdown_finishes_what_was_taken(waits: bool) -> None:
    pool = WorkerPool(2, memory_limit_bytes=300 * MB, time_limit_seconds=60)
    pids = [pool.submit(hazards.pid) for _ in range(2)]
    futures = [pool.submit(hazards.nap, 0.1) for _ in range(5)]
    pool.shutdown(wait=waits)
    with pytest.raises(RuntimeError):
        pool.submit(hazards.pid)
    assert [future.result() for future in futures] == [0.1] * 5
    for future in pids:
        await_end(future.result())


def test_shutdown_drops_what_did_not_begin() -> None:
    pool = WorkerPool(1, memory_limit_bytes=300 * MB, time_limit_seconds=60)
    futures = [pool.submit(hazards.nap, 0.3) for _ in range(5)]
    while not futures[0].running():
        time.sleep(0.01)
    pool.shutdown(cancel_futures=True)
    assert futures[0].result() == 0.3
    with pytest.raises(CancelledError):
        futures[-1].result()


def test_threads_may_share_it(pool: WorkerPool) -> None:
    failures: list[object] = []

    def use(number: int) -> None:
        array = np.full(200_000, number)
        for _ in range(10):
            back = pool.submit(hazards.echo, array).result()
            failures.extend([number] * (not np.array_equal(back, array)))

    threads = [threading.Thread(target=use, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


PARENT = """
import sys, time
from pathlib import Path
import hazards
from leanpacs.workers import WorkerPool

if __name__ == "__main__":
    pool = WorkerPool(2, memory_limit_bytes=10**9, time_limit_seconds=3)
    pool.submit(hazards.nap, 1e-3).result()
    pool.submit({call}, Path(sys.argv[1]))
    pool.submit(hazards.nap, 3600)
    time.sleep(3600)
"""


@pytest.mark.parametrize("call", ["hazards.hang", "hazards.mark"])
def test_workers_end_with_a_parent_that_is_killed(call: str, tmp_path: Path) -> None:
    # A worker that hangs with the GIL held cannot see it; the kernel ends it a little after its time.
    script = tmp_path / "parent.py"
    script.write_text(PARENT.format(call=call))
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    marked = tmp_path / "pid"
    with subprocess.Popen([sys.executable, script, marked], env=environment) as parent:
        try:
            deadline = time.monotonic() + 60
            while not (marked.exists() and marked.read_text()):
                assert time.monotonic() < deadline
                time.sleep(0.02)
            worker = int(marked.read_text())
            assert is_there(worker)
        finally:
            parent.kill()
    await_end(worker)


def test_futures_can_be_waited_for(pool: WorkerPool) -> None:
    done, not_done = wait([pool.submit(hazards.nap, 0.01) for _ in range(4)], timeout=60)
    assert len(done) == 4
    assert not not_done


RESTING = """
import resource
import time
from leanpacs.workers.memory import Rests, keep_freed_memory

keep_freed_memory(1 << 30, arenas=1)

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize()

rests = Rests()
kept = [b"x" * (1 << 20) for _ in range(200)]
rests.forget_with(kept.clear)
busy = resident()
until = time.process_time() + 0.2
while time.process_time() < until:
    pass
rests.look()
still = resident()
rests.look()
print(busy, still, resident())
"""


def test_a_process_keeps_freed_memory_while_it_is_busy_and_gives_it_back_when_it_is_not() -> None:
    said = subprocess.run([sys.executable, "-c", RESTING], capture_output=True, text=True, check=True).stdout
    busy, still, resting = map(int, said.split())
    assert still > busy - 20 * MB
    assert resting < busy - 150 * MB


def test_how_a_process_ended_is_known_although_another_thread_saw_it_first() -> None:
    context, stop = multiprocessing.get_context("spawn"), threading.Event()

    def look_after_all() -> None:
        while not stop.is_set():
            multiprocessing.active_children()

    others = [threading.Thread(target=look_after_all) for _ in range(2)]
    for other in others:
        other.start()
    codes = []
    for _ in range(40):
        process = context.Process(target=time.sleep, args=(100,))
        process.start()
        process.kill()
        codes.append(exit_code(process, 30))
    stop.set()
    for other in others:
        other.join()
    assert codes == [-signal.SIGKILL] * 40
