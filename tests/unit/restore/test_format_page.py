"""The example in docs/reference/pack-format.md is a pack, and becomes the data set that the page says."""

from __future__ import annotations

import io
import re
import subprocess
import sys
from pathlib import Path

from leanpacs.archive.manifest import Manifest
from leanpacs.storage.pack import PackReader

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "reference" / "pack-format.md").read_text(encoding="utf-8")


def example() -> tuple[bytes, bytes]:
    """The pack and the data set of the page."""
    pack = bytearray()
    for offset, line, json in re.findall(r"^([0-9a-f]{4})  ((?:[0-9a-f]{2} ?)+)$|^(\{\"leanpacs\".*\})$", PAGE, re.M):
        if offset:
            assert len(pack) == int(offset, 16), f"the line at {offset} does not follow"
        pack += json.encode() if json else bytes.fromhex(line)
    (text,) = re.findall(r"^data set\n((?:[0-9a-f ]+\n)+)", PAGE, re.M)
    return bytes(pack), bytes.fromhex(text)


def test_the_example_is_read_by_the_archive() -> None:
    pack, data_set = example()
    reader = PackReader(io.BytesIO(pack))
    assert list(reader.entries) == ["head.zst", "frames/00001.zst", "manifest.json"]
    manifest = Manifest.from_json(reader.read("manifest.json"))
    assert manifest.length == len(data_set)


def test_the_example_is_restored(tmp_path: Path) -> None:
    pack, data_set = example()
    (tmp_path / "pack.zip").write_bytes(pack)
    script = ROOT / "restore" / "leanpacs_restore.py"
    words = [sys.executable, str(script), str(tmp_path / "pack.zip"), str(tmp_path / "out")]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / "1.2" / "1.2.1" / "1.2.3.dcm").read_bytes().endswith(data_set)


def test_fields_of_the_manifest_are_on_the_page() -> None:
    source = (ROOT / "src" / "leanpacs" / "archive" / "manifest.py").read_text(encoding="utf-8")
    fields = set(re.findall(r'^ +"(\w+)": ', source, re.M))
    assert len(fields) > 30
    assert {field for field in fields if f"`{field}`" not in PAGE} == set()
