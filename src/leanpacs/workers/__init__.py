"""Worker processes that may crash, hang or grow without harm to whoever gave them work.

:class:`WorkerPool` is an executor as those of :mod:`concurrent.futures`. It knows nothing of what it runs.
"""

from leanpacs.workers.pool import WorkerPool

__all__ = ["WorkerPool"]
