"""Make the dictionary that ships with LeanPACS: src/leanpacs/storage/shipped.dict and shipped.json.

It is trained on headers that synthetic_headers.py invents, and on those of the test files that come with
pydicom. The result depends on nothing but the recipes and the versions of pydicom and zstandard::

    python scripts/train_shipped_dictionary.py [--check]
"""

from __future__ import annotations

import argparse
import io
import logging
import sys
import warnings
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pydicom
import zstandard
from pydicom import dcmread
from synthetic_headers import synthetic_headers

from leanpacs.storage.dictionary import ANY_SCOPE, train

PACKAGE = Path(__file__).parent.parent / "src" / "leanpacs" / "storage"
VERSION = 1
TRAINED_AT = datetime(2025, 1, 1, tzinfo=UTC)
SEED = 20250101
ROUNDS = 24
COPIES_OF_BUNDLED = 3
TRIALS = 16
LONGEST_BUNDLED = 40 << 10


def bundled_headers() -> Iterator[bytes]:
    """Headers of pydicom's own test files, in the order of their names."""
    folder = Path(pydicom.__file__).parent / "data" / "test_files"
    for path in sorted(folder.rglob("*")):
        if path.is_file() and (header := _header(path.read_bytes())):
            yield header


def _header(data: bytes) -> bytes:
    """What stands before the value of Pixel Data; nothing when it is not DICOM, or too long to be typical."""
    file = io.BytesIO(data)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ds = dcmread(file, stop_before_pixels=True)
            ds.get("PatientID")
    except Exception:  # noqa: BLE001 (some of the files are there because they are broken)
        return b""
    end = file.tell()
    return data[: end + 12] if end <= LONGEST_BUNDLED else b""


def main() -> int:
    """Write the dictionary, or compare it with what is there."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail if the result is another")
    check = parser.parse_args().check
    warnings.simplefilter("ignore")  # of values that are as wrong as real ones are
    logging.getLogger("pydicom").setLevel(logging.ERROR)
    samples = [*bundled_headers()] * COPIES_OF_BUNDLED + [*synthetic_headers(SEED, ROUNDS)]
    made = train(samples, scope=ANY_SCOPE, version=VERSION, trained_at=TRAINED_AT, trials=TRIALS)
    files = {PACKAGE / "shipped.dict": made.data, PACKAGE / "shipped.json": made.record + b"\n"}
    print(f"{len(samples)} headers of {sum(map(len, samples))} bytes: dictionary {made.id}")
    print(f"{len(made.data)} bytes, by pydicom {pydicom.__version__}, zstandard {zstandard.__version__}")
    if check:
        return int(any(path.read_bytes() != data for path, data in files.items()))
    for path, data in files.items():
        path.write_bytes(data)
    return 0


if __name__ == "__main__":
    sys.exit(main())
