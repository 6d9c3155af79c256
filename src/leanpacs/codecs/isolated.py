"""Codecs in worker processes: a code stream that crashes its decoder, or makes it hang or grow, harms nothing else."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any, Final, TypeVar

from leanpacs.dicom import uids
from leanpacs.dicom.frames import FrameSpec
from leanpacs.workers import WorkerPool

T = TypeVar("T")

FUZZED_CLEAN: Final = frozenset({uids.RLE, uids.DEFLATED_FRAME, uids.ENCAPSULATED_UNCOMPRESSED})
"""Transfer syntaxes whose decoders are a few lines each, and withstood all that the fuzz made of their code streams."""

WRITTEN_ANYWHERE: Final = frozenset({uids.JPEG_LS_LOSSLESS, uids.HTJ2K_LOSSLESS, uids.HTJ2K_LOSSLESS_RPCL})
"""Transfer syntaxes whose encoders are quick, need little memory, and withstood samples of all kinds and shapes: one
frame of samples need not be taken to a worker for them, which costs 2 ms. Decoders read what anybody may have made up;
an encoder reads numbers, of which there are as many as the shape says."""

WRITTEN_ANYWHERE_BYTES: Final = 8 << 20
"""Of larger frames a worker encodes all the same: what it takes can be limited there."""

_LEAST_SECONDS: Final = 30.0
_BYTES_A_SECOND: Final = 200_000
"""The slowest encoder, a hundred times slowed down by a busy machine, is as fast as this."""

_LEAST_MEMORY_BYTES: Final = 256 << 20
_COPIES: Final = 40
"""Bytes that a codec may need for each byte of samples; libjxl takes the most, to encode 8-bit colour."""


class FrameWorkers(Executor):
    """Hands calls about frames to a pool, with as much time and memory as a frame of that size may need.

    The frame is known by the first argument that is a :class:`FrameSpec`, or has one as its ``spec``; other calls have
    the limits of the pool. Those are never exceeded.

    Parameters
    ----------
    pool : WorkerPool
        Its maker shuts it down.
    memory_limit_bytes : int
        Limit of the pool.
    time_limit_seconds : float
        Limit of the pool.
    """

    def __init__(self, pool: WorkerPool, *, memory_limit_bytes: int, time_limit_seconds: float) -> None:
        self._pool = pool
        self._memory_limit_bytes = memory_limit_bytes
        self._time_limit_seconds = time_limit_seconds

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """Run a module-level function in a worker."""
        spec = next((found for found in map(_spec_of, args) if found is not None), None)
        if spec is None:
            return self._pool.submit(fn, *args, **kwargs)
        size = -(-spec.frame_bits // 8)
        return self._pool.submit(
            fn,
            *args,
            time_limit_seconds=min(self._time_limit_seconds, _LEAST_SECONDS + size / _BYTES_A_SECOND),
            memory_limit_bytes=min(self._memory_limit_bytes, _LEAST_MEMORY_BYTES + _COPIES * size),
            **kwargs,
        )


def _spec_of(argument: object) -> FrameSpec | None:
    if isinstance(argument, FrameSpec):
        return argument
    spec = getattr(argument, "spec", None)
    return spec if isinstance(spec, FrameSpec) else None
