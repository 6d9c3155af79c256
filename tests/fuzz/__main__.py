"""``python -m tests.fuzz``: many more cases than the tests run."""

from __future__ import annotations

import argparse
import sys
from itertools import islice
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from fuzz import files, seeds, streams


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("what", choices=("streams", "files"), help="code streams, or files through an archive")
    parser.add_argument("--count", type=int, default=20_000, help="cases")
    parser.add_argument("--first", type=int, default=0, help="cases to pass over, to go on where another run ended")
    parser.add_argument("--seed", type=int, default=1, help="what is drawn")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=20.0, help="time limit of a case")
    parser.add_argument("--memory", type=int, default=2_000_000_000, help="bytes a worker may grow by")
    options = parser.parse_args()
    if options.what == "files":
        spoilt = files.cases(seeds.files(), options.first + options.count, options.seed)
        tally = files.run(islice(spoilt, options.first, None), workers=options.workers)
        print("\n".join(tally.lines()))
        return bool(tally.findings)
    drawn = streams.cases(seeds.streams(), options.first + options.count, options.seed)
    tally = streams.run(
        islice(drawn, options.first, None),
        workers=options.workers,
        seconds=options.seconds,
        memory_bytes=options.memory,
    )
    print("\n".join(tally.lines()))
    return bool(tally.findings)


if __name__ == "__main__":
    sys.exit(main())
