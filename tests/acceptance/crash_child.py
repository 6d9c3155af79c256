"""Run by test_crash.py in a process of its own: land and settle instances, and die at a given step.

``python crash_child.py DATA STEP COUNT FILE...``: kills itself with SIGKILL the COUNT-th time it comes to STEP. Each
acknowledged SOP Instance UID is written to standard output at once.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Any

from leanpacs.archive.archive import open_archive
from leanpacs.archive.intake.incoming import Incoming
from leanpacs.archive.settle.settler import Settler
from leanpacs.config import Settings


class Fuse:
    """Kills this process the ``count``-th time it is told of ``step``."""

    def __init__(self, step: str, count: int) -> None:
        self.step, self.left = step, count

    def __call__(self, step: str) -> None:
        if step == self.step:
            self.left -= 1
            if self.left == 0:
                os.kill(os.getpid(), signal.SIGKILL)


class Inline(Executor):
    """Runs tasks at once, in this process, telling the fuse of each step."""

    def __init__(self, fuse: Fuse) -> None:
        self.fuse = fuse

    def submit(self, function: Any, /, *args: Any, **options: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_result(function(*args, **options, step=self.fuse))
        return future


def main() -> None:
    data, step, count, *files = sys.argv[1:]
    fuse = Fuse(step, int(count))
    settings = Settings(storage={"minimum_free_bytes": 0}, delete={"grace_seconds": 0})
    with open_archive(Path(data), settings, step=fuse) as archive:
        settler = Settler(
            archive.store,
            archive.catalog,
            settings.settle,
            limit_inflated_bytes=1 << 30,
            executor=lambda: Inline(fuse),
            step=fuse,
        )
        for number, file in enumerate(files):
            path = archive.spool_folder / f"incoming-{number}"
            shutil.copyfile(file, path)
            receipt = archive.land(Incoming(path, "TESTER", "import"))
            os.write(1, f"{receipt.sop_uid}\n".encode())
            if number % 2:
                settler.drain()
        settler.drain()
    os.write(1, b"finished\n")


if __name__ == "__main__":
    main()
