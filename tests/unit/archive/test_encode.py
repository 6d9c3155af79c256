"""Encoding a received instance: what was measured is not made a second time, and workers load no database."""

from __future__ import annotations

import io
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from unittest import mock

import pytest

from leanpacs.archive.giveback.rebuild import PackedInstance
from leanpacs.archive.manifest import MANIFEST, Form, Manifest, Received
from leanpacs.archive.settle import packer
from leanpacs.archive.settle.encode import Encoded, Preferences, SeriesChoices, encode
from leanpacs.dicom.frames import FrameSpec
from leanpacs.refs import Digest
from leanpacs.storage.dictionary import Compressor
from leanpacs.transcode.content import open_content
from writers import GREY, image, native_file

SMALL = replace(GREY, rows=200, columns=200)
LARGE = replace(GREY, rows=1100, columns=500)
"""More than the sample that ``fast`` measures."""


def encoded(preferences: Preferences, spec: FrameSpec, folder: Path) -> tuple[Encoded, int]:
    """A pack that gives back what was received, and how many frames were encoded beside what was measured."""
    received = native_file(spec, image(spec), folder / "native.dcm").read_bytes()
    pack = io.BytesIO()
    encode_frame = mock.Mock(wraps=packer.encode_frame)
    with open_content(io.BytesIO(received), None, spool=folder, limit_bytes=1 << 30) as content:
        start = content.layout.preface_length
        facts = Manifest(
            study_uid="2.25.5",
            series_uid="2.25.6",
            sop_uid="2.25.7",
            sop_class="1.2.840.10008.5.1.4.1.1.7",
            transfer_syntax=content.layout.transfer_syntax,
            length=len(received) - start,
            digest=Digest.of(received[start:]),
            form=Form.WHOLE,
            received=Received("2000-01-01T00:00:00+00:00", "", "import"),
            preface=start,
        )
        with mock.patch.object(packer, "encode_frame", encode_frame):
            made = encode(content, facts, pack, Compressor(), preferences)
    assert PackedInstance(pack, ()).digest() == facts.digest
    return made, encode_frame.call_count


@pytest.mark.parametrize("preset", ["fast", "balanced"])
def test_the_code_stream_that_was_measured_is_kept(tmp_path: Path, preset: str) -> None:
    preferences = Preferences(SeriesChoices(), 0.0, (), preset=preset)
    first, count = encoded(preferences, SMALL, tmp_path)
    assert first.choice is not None
    assert count == 0
    known = replace(preferences, choices=SeriesChoices().having(first.choice))
    following, count = encoded(known, SMALL, tmp_path)
    assert following.choice is None
    assert count == 1
    assert following.packed.entries == first.packed.entries | {MANIFEST: following.packed.entries[MANIFEST]}


def test_a_code_stream_of_a_sample_is_not(tmp_path: Path) -> None:
    made, count = encoded(Preferences(SeriesChoices(), 0.0, ()), LARGE, tmp_path)
    assert made.choice is not None
    assert count == 1


def test_workers_load_no_database() -> None:
    modules = "again", "deriving", "gathering", "settling"
    code = "; ".join(f"import leanpacs.archive.settle.{name}" for name in modules)
    code += "; import sys; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    assert "leanpacs.catalog.rows" in loaded
    assert "sqlalchemy" not in loaded
