"""Make the dictionary for DICOM JSON that ships with LeanPACS: src/leanpacs/services/dicomweb/dicom-json.dict.

It is trained on the metadata of instances that synthetic_headers.py invents: it is given to everybody who asks, so
nothing of a patient may be in it. The result depends on nothing but the recipes and the versions of pydicom and
zstandard::

    python scripts/train_json_dictionary.py [--check]
"""

from __future__ import annotations

import argparse
import io
import logging
import random
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import orjson
import zstandard
from synthetic_headers import synthetic_headers

from leanpacs.dicom.instance import scan
from leanpacs.dicom.jsonmodel import data_set_json
from leanpacs.errors import DicomError

TARGET = Path(__file__).parent.parent / "src" / "leanpacs" / "services" / "dicomweb" / "dicom-json.dict"
SIZE_BYTES = 64 << 10
SEED = 20261101
ROUNDS = 24
BULK = "http://127.0.0.1:8080/dicom-web/studies/1.2.840/series/1.2.840/instances/1.2.840/bulkdata/"


def bodies() -> Iterator[bytes]:
    """Metadata of invented instances, as the archive gives them."""
    for header in synthetic_headers(SEED, ROUNDS):
        try:
            layout = scan(io.BytesIO(header))
            model = data_set_json(
                header[layout.preface_length : layout.head_end],
                implicit_vr=layout.implicit_vr,
                little_endian=layout.little_endian,
                bulk_uri=lambda path: BULK + path,
            )
        except DicomError:
            continue  # some headers are as wrong as real ones are
        yield orjson.dumps(model)


def main() -> int:
    """Write the dictionary, or compare it with what is there."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail if the result is another")
    check = parser.parse_args().check
    warnings.simplefilter("ignore")
    logging.getLogger("pydicom").setLevel(logging.ERROR)
    samples = list(bodies())
    random.Random(SEED).shuffle(samples)
    made = zstandard.train_dictionary(SIZE_BYTES, samples, k=1024, d=8, steps=8, threads=1).as_bytes()
    print(f"{len(samples)} bodies of {sum(map(len, samples))} bytes; zstandard {zstandard.__version__}")
    if check:
        return int(TARGET.read_bytes() != made)
    TARGET.write_bytes(made)
    return 0


if __name__ == "__main__":
    sys.exit(main())
