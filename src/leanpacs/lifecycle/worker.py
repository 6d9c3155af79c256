"""A Dask worker that lifecycle tasks run on."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable

from leanpacs.errors import ConfigError


def serve_tasks(scheduler: str, *, threads: int, host: str, ready: Callable[[str], None]) -> None:
    """Run tasks of a scheduler until SIGINT or SIGTERM.

    Raises
    ------
    ConfigError
        Dask is not installed, or the scheduler does not answer.
    """
    asyncio.run(_serve(scheduler, threads, host, ready))


async def _serve(scheduler: str, threads: int, host: str, ready: Callable[[str], None]) -> None:
    try:
        from distributed import Worker
    except ImportError as error:
        raise ConfigError("executor.kind", "dask", "needs the extra: pip install 'leanpacs[dask]'") from error
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    try:
        async with Worker(scheduler, nthreads=threads, host=host, dashboard=False, death_timeout=20) as worker:
            ready(worker.address)
            stopping = asyncio.ensure_future(stop.wait())
            ended = asyncio.ensure_future(worker.finished())
            await asyncio.wait({stopping, ended}, return_when=asyncio.FIRST_COMPLETED)
            for waiting in (stopping, ended):
                waiting.cancel()
    except (OSError, TimeoutError, ValueError) as error:
        raise ConfigError("ADDRESS", scheduler, f"the Dask scheduler does not answer: {error}") from error
