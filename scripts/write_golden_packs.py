"""Write golden packs: what this release makes of a few synthetic instances, to be readable for ever.

``python scripts/write_golden_packs.py tests/golden/NAME``, once for each release that changes how packs are written.
The folder is a store (packs and dictionaries) with the digests of what was received beside it.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import data
from ageing import Clock, aged
from leanpacs.archive.archive import open_archive
from leanpacs.archive.intake.incoming import Incoming
from leanpacs.lifecycle.policy import Policy

RECIPES = [
    data.Recipe(modality="CT", rows=64, columns=64, signed=True, instance=1, series=1),
    data.Recipe(modality="MR", rows=48, columns=40, frames=3, transfer_syntax=data.IMPLICIT_LE, instance=2, series=2),
    data.Recipe(modality="CR", rows=64, columns=64, transfer_syntax=data.EXPLICIT_BE, instance=3, series=3),
    data.Recipe(modality="US", samples=3, bits_allocated=8, bits_stored=8, rows=96, columns=96, instance=4, series=4),
    data.Recipe(
        modality="US", samples=3, bits_allocated=8, bits_stored=8, planar=1, rows=96, columns=96, instance=5, series=5
    ),
    data.Recipe(modality="SEG", bits_allocated=1, bits_stored=1, rows=30, columns=31, frames=5, instance=6, series=6),
    data.Recipe(modality="NM", bits_allocated=32, bits_stored=32, instance=7, series=7),
    data.Recipe(modality="MR", kind="float", bits_allocated=32, bits_stored=32, instance=8, series=8),
    data.Recipe(modality="XA", transfer_syntax=data.RLE, frames=2, rows=160, columns=160, instance=9, series=9),
    data.Recipe(
        modality="CT", transfer_syntax=data.JPEG_LS, fragments=3, rows=200, columns=200, instance=10, series=10
    ),
    data.Recipe(modality="CT", transfer_syntax=data.DEFLATED_LE, instance=11, series=11),
    data.Recipe(modality="SR", kind="none", instance=12, series=12),
    data.Recipe(modality="CT", transfer_syntax=data.JPEG_LS, content="noise", rows=200, columns=190, instance=14),
    data.Recipe(modality="CT", transfer_syntax=data.JPEG_LOSSLESS, rows=200, columns=190, instance=15),
    data.Recipe(
        modality="US",
        transfer_syntax=data.JPEG_BASELINE,
        samples=3,
        bits_allocated=8,
        bits_stored=8,
        photometric="YBR_FULL_422",
        frames=2,
        rows=300,
        columns=290,
        instance=16,
    ),
    data.Recipe(modality="MG", content="stretched", rows=160, columns=200, instance=17, series=17),
    *(
        data.Recipe(modality="PT", frames=n % 2 + 1, rows=130, columns=120, instance=n, seed=n, series=18)
        for n in range(18, 21)
    ),
    data.Recipe(modality="DX", file_meta=False, trailing_padding=6, rows=80, columns=80, instance=13, series=13),
]

TOGETHER = Policy.model_validate(
    {"name": "golden", "rules": [{"name": "together", "when": {"modality": "PT"}, "then": {"pack": "series"}}]}
)
"""The series of this modality goes into one pack."""


def main() -> None:
    """Make the folder named on the command line."""
    golden = Path(sys.argv[1])
    digests = {}
    with tempfile.TemporaryDirectory() as folder, open_archive(Path(folder)) as archive:
        for recipe in RECIPES:
            content = data.make_instance(recipe)
            path = archive.spool_folder / "golden"
            path.write_bytes(content)
            receipt = archive.land(Incoming(path, "GOLDEN", "import"))
            digests[receipt.sop_uid] = hashlib.sha256(content).hexdigest()
        archive.settler().drain()
        aged(archive, TOGETHER, Clock())
        for part in ("blobs", "dictionaries"):
            shutil.copytree(archive.store.root / part, golden / part)
    for blob in (golden / "blobs").glob("*"):
        if not any(blob.iterdir()):
            blob.rmdir()
    (golden / "received.json").write_text(json.dumps(digests, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
