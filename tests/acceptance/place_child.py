"""Run by test_placing_crash.py in a process of its own: move all that has settled, and die at a given step.

``python place_child.py DATA SETTINGS STEP COUNT TIER``: kills itself with SIGKILL the COUNT-th time it comes to STEP.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from datetime import UTC, datetime
from pathlib import Path

from leanpacs.archive.archive import open_archive
from leanpacs.config import Settings
from leanpacs.refs import Tier


def main() -> None:
    data, settings, step, count, tier = sys.argv[1:]
    left = int(count)

    def fuse(reached: str) -> None:
        nonlocal left
        left -= reached == step
        if left == 0 and reached == step:
            os.kill(os.getpid(), signal.SIGKILL)

    with open_archive(Path(data), Settings(**json.loads(settings)), step=fuse) as archive:
        placer = archive.placer()
        for instance in archive.catalog.all_instances():
            placer.move(archive.catalog.representations(instance.id), Tier(tier))
            fuse("moved")
            archive.deleter().sweep(datetime.now(UTC))
            fuse("swept")


if __name__ == "__main__":
    main()
