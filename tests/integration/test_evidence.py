"""Presets and evidence from the door to the catalog, the pack and the command."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import sqlite3
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

import data
from integration.test_archive import Inline, given_back, take_in
from leanpacs import __version__
from leanpacs.archive.archive import Archive, open_archive
from leanpacs.archive.care.evidence import Proof, proofs
from leanpacs.archive.settle.settler import Settler
from leanpacs.cli.main import app
from leanpacs.config import Settings
from leanpacs.errors import InstanceNotFound
from leanpacs.refs import Digest

RESTORER = Path(__file__).parent.parent.parent / "restore" / "leanpacs_restore.py"
CT = data.Recipe(rows=96, columns=96, signed=True, frames=2)


def opened(folder: Path, preset: str = "fast", **settle: Any) -> Any:
    """An archive that settles by a preset."""
    settings = Settings(storage={"minimum_free_bytes": 0, "data": folder}, settle={"preset": preset, **settle})
    return open_archive(folder, settings)


def settle(archive: Archive, **settings: Any) -> None:
    """Settle all that has landed, in this process."""
    wanted = archive.settings.settle.model_copy(update=settings)
    Settler(archive.store, archive.catalog, wanted, limit_inflated_bytes=1 << 30, executor=Inline).drain()
    assert archive.catalog.backlog().count == 0


def stretched(*, signed: bool = False, frames: int = 1) -> bytes:
    """A file whose stored values are multiples of 29."""
    recipe = data.Recipe(rows=160, columns=150, bits_stored=16, signed=signed, frames=frames)
    generator = np.random.default_rng(1)
    shape = (frames * recipe.rows, recipe.columns)
    plane = np.add.outer(np.arange(shape[0]), np.arange(shape[1])) // 5 + generator.integers(0, 5, shape)
    low = -1500 if signed else 0
    pixels = (low + 29 * plane).astype("<i2" if signed else "<u2").tobytes()
    content = data.make_instance(recipe)
    assert content.endswith(data.native_pixels(recipe))
    return content[: -len(pixels)] + pixels


def the_proof(archive: Archive, uid: str) -> Proof:
    (proof,) = proofs(archive, uid)
    return proof


@pytest.mark.parametrize("preset", ["fast", "balanced", "dense", "jpegxl:4", "htj2k", "jpegls", "jpeg2000"])
def test_a_preset_is_used_given_back_and_told_of(tmp_path: Path, preset: str) -> None:
    with opened(tmp_path, preset) as archive:
        content = data.make_instance(CT)
        uid = take_in(archive, content).sop_uid
        settle(archive)
        assert given_back(archive, uid) == content
        proof = the_proof(archive, uid)
    held, manifest = proof.held, proof.manifest
    assert proof.is_proven
    assert held.evidence.preset == preset
    assert manifest is not None
    assert manifest.made is not None
    assert (manifest.made.preset, manifest.made.by) == (preset, f"leanpacs {__version__}")
    assert held.codec == (preset.partition(":")[0] if preset[0] in "hj" else held.codec)
    assert 0 < held.evidence.encode_seconds <= held.evidence.seconds
    assert held.evidence.decoder == f"leanpacs {__version__}; {manifest.made.decoder}"
    assert held.evidence.library == manifest.made.decoder
    assert held.evidence.samples_digest == manifest.samples_digest == Digest.of(data.native_pixels(CT))


def test_while_much_is_waiting_the_preset_is_fast(tmp_path: Path) -> None:
    with opened(tmp_path, "dense") as archive:
        uid = take_in(archive, data.make_instance(CT)).sop_uid
        settle(archive, pressed_backlog_bytes=0)
        held = the_proof(archive, uid).held
    assert held.evidence.preset == "fast"
    assert (held.codec, held.effort) in {("delta", 1), ("zstd", 3)}


def test_what_ends_a_burst_is_settled_as_the_burst_was(tmp_path: Path) -> None:
    contents = [data.make_instance(data.Recipe(rows=96, columns=96, instance=number)) for number in range(8)]
    with opened(tmp_path, "htj2k") as archive:
        uids = [take_in(archive, content).sop_uid for content in contents]
        settle(archive, pressed_backlog_bytes=len(contents[0]) * 7)
        assert [the_proof(archive, uid).held.evidence.preset for uid in uids] == ["fast"] * 8
        later = data.make_instance(data.Recipe(rows=96, columns=96, instance=9))
        uid = take_in(archive, later).sop_uid
        settle(archive, pressed_backlog_bytes=len(contents[0]) * 7)
        assert the_proof(archive, uid).held.evidence.preset == "htj2k"


def test_levels_found_while_choosing_are_those_that_are_used(tmp_path: Path) -> None:
    content = stretched()
    with opened(tmp_path) as archive:
        uid = take_in(archive, content).sop_uid
        settle(archive, pressed_backlog_bytes=0)
        assert given_back(archive, uid) == content
        manifest = the_proof(archive, uid).manifest
    assert manifest is not None
    assert manifest.pixel is not None
    assert manifest.pixel.codec == "delta"
    assert manifest.pixel.levels == tuple(sorted(set(np.frombuffer(content[-2 * 160 * 150 :], "<u2").tolist())))


def test_a_choice_made_by_another_preset_is_not_used(tmp_path: Path) -> None:
    recipes = [data.Recipe(rows=96, columns=96, instance=number) for number in range(3)]
    with opened(tmp_path) as archive:
        used = []
        for recipe, preset in zip(recipes, ("fast", "jpegxl:5", "fast"), strict=True):
            uid = take_in(archive, data.make_instance(recipe)).sop_uid
            settle(archive, preset=preset)
            used.append((the_proof(archive, uid).held.evidence.preset, the_proof(archive, uid).held.effort))
    assert [name for name, _ in used] == ["fast", "jpegxl:5", "fast"]
    assert used[1][1] == 5
    assert used[0][1] == used[2][1] < 5


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("preset", ["jpegls", "htj2k", "jpegxl:1", "delta"])
def test_levels_come_back_from_the_archive_and_without_it(tmp_path: Path, preset: str, *, signed: bool) -> None:
    content = stretched(signed=signed, frames=2)
    with opened(tmp_path / "archive", preset) as archive:
        uid = take_in(archive, content).sop_uid
        settle(archive)
        assert given_back(archive, uid) == content
        manifest = the_proof(archive, uid).manifest
    assert manifest is not None
    assert manifest.pixel is not None
    assert manifest.pixel.levels[1] - manifest.pixel.levels[0] == 29
    assert manifest.pixel.precision == (len(manifest.pixel.levels) - 1).bit_length()
    spec = importlib.util.spec_from_file_location("leanpacs_restore", RESTORER)
    assert spec is not None
    assert spec.loader is not None
    restorer = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(restorer)
    assert restorer.main([str(tmp_path / "archive" / "hot"), str(tmp_path / "out")]) == 0
    (restored,) = (tmp_path / "out").rglob("*.dcm")
    assert restored.read_bytes() == content


def test_an_instance_of_the_series_that_uses_all_values_is_held_by_its_values(tmp_path: Path) -> None:
    with opened(tmp_path, "jpegls") as archive:
        take_in(archive, stretched())
        settle(archive)
        noise = data.make_instance(
            data.Recipe(rows=160, columns=150, bits_stored=16, instance=1, content="noise", seed=4)
        )
        uid = take_in(archive, noise).sop_uid
        settle(archive)
        manifest = the_proof(archive, uid).manifest
        assert given_back(archive, uid) == noise
    assert manifest is not None
    assert manifest.pixel is not None
    assert manifest.pixel.levels == ()


def evidence(folder: Path, uid: str, *flags: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["evidence", uid, "--data", str(folder), *flags])
    if isinstance(result.exception, InstanceNotFound):
        raise result.exception
    return result.exit_code, result.output


def test_the_command_tells_what_was_compared(tmp_path: Path) -> None:
    recipes = [data.Recipe(instance=number, series=number % 2) for number in range(4)]
    with opened(tmp_path) as archive:
        receipts = [take_in(archive, data.make_instance(recipe)) for recipe in recipes]
        settle(archive)
    code, text = evidence(tmp_path, receipts[0].sop_uid)
    digest = hashlib.sha256(data.make_data_set_bytes(recipes[0])).hexdigest()
    assert code == 0
    assert digest in text
    assert "Proven on 20" in text
    assert "was compared by its SHA-256 with the data set as received, and was the same" in text

    for uid, count in ((recipes[0].sop_uid, 1), (recipes[0].series_uid, 2), (recipes[0].study_uid, 4)):
        code, text = evidence(tmp_path, uid, "--json")
        records = json.loads(text)
        assert (code, len(records)) == (0, count)
        assert all(record["check"]["proven"] and record["check"]["data_set_sha256"] for record in records)
        assert records[0]["received"]["sha256"] == records[0]["check"]["data_set_sha256"] == digest
        assert records[0]["received"]["length"] == len(data.make_data_set_bytes(recipes[0]))
    assert "4 of 4 stored forms are proven" in evidence(tmp_path, recipes[0].study_uid)[1]
    with pytest.raises(InstanceNotFound):
        evidence(tmp_path, "1.2.3")


def test_what_has_only_landed_is_not_proven(tmp_path: Path) -> None:
    with opened(tmp_path) as archive:
        uid = take_in(archive, data.make_instance(CT)).sop_uid
    code, text = evidence(tmp_path, uid)
    assert code == 1
    assert "Not settled yet" in text


@pytest.mark.parametrize("change", ["data_set_digest", "evidence_data_set_digest"])
def test_a_catalog_that_tells_otherwise_than_the_pack_is_noticed(tmp_path: Path, change: str) -> None:
    with opened(tmp_path) as archive:
        uid = take_in(archive, data.make_instance(CT)).sop_uid
        settle(archive)
    table = "representations" if change.startswith("evidence") else "instances"
    with sqlite3.connect(tmp_path / "catalog.sqlite") as connection:
        connection.execute(f"UPDATE {table} SET {change} = ?", (bytes(32),))
    connection.close()
    code, text = evidence(tmp_path, uid)
    assert code == 1
    assert "NOT PROVEN" in text


def test_a_pack_that_is_gone_is_told_of(tmp_path: Path) -> None:
    with opened(tmp_path) as archive:
        uid = take_in(archive, data.make_instance(CT)).sop_uid
        settle(archive)
        archive.store.delete(the_proof(archive, uid).held.blob.digest)
    code, text = evidence(tmp_path, uid, "--json")
    assert code == 1
    assert json.loads(text)[0]["check"]["problem"]
