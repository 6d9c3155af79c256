"""The installed command: lossy copies by rule, beside originals that stay as they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pydicom

import data
from commands import run

POLICY = """
name = "lossy"
[[rules]]
name = "small copies"
[rules.then]
lossy_copy = { to = "JPEGXL", distance = 1.5 }
[[rules]]
name = "CT small"
[rules.when]
modality = "CT"
[rules.then]
lossy_copy = { to = "JPEG2000", ratio = 12 }
"""
EXPIRY = """
name = "copies go first"
[[rules]]
name = "copies go"
[rules.when]
derived = true
[rules.then]
delete_after_days = 0
"""


def sources() -> dict[str, bytes]:
    """Two CT slices, a mammogram; what is lossy already, what has no pixels, what is computed with."""
    chosen = ("CT/GE-head/01.dcm", "CT/GE-head/02.dcm", "MG/fo-dicom__GH133.dcm")
    files = [(data.corpus_folder() / name).read_bytes() for name in chosen]
    made = [
        data.Recipe(modality="US", series=1, transfer_syntax=data.JPEG_BASELINE, bits_allocated=8, bits_stored=8),
        data.Recipe(modality="SR", series=2, instance=2, kind="none"),
        data.Recipe(modality="SEG", series=3, instance=3, bits_allocated=8, bits_stored=8),
    ]
    received = [*files, *(data.make_instance(recipe) for recipe in made)]
    return {str(pydicom.dcmread(_file(content)).SOPInstanceUID): content for content in received}


def exported(archive: Path, out: Path) -> dict[str, bytes]:
    """Everything that is held, by SOP Instance UID."""
    run("export", "--out", out, "--data", archive, "--quiet")
    return {path.stem: path.read_bytes() for path in out.rglob("*.dcm")}


def tasks(done: dict[str, Any]) -> dict[tuple[str, str], int]:
    """What a run has done."""
    return {(row["task"], row["outcome"]): row["number"] for row in done["tasks"]}


def test_a_rule_makes_lossy_copies_once_and_originals_stay(tmp_path: Path) -> None:
    received = sources()
    inbox, archive, policy = tmp_path / "inbox", tmp_path / "archive", tmp_path / "lossy.toml"
    inbox.mkdir()
    for uid, content in received.items():
        (inbox / uid).write_bytes(content)
    policy.write_text(POLICY)
    here = ("--policy", policy, "--data", archive)
    run("import", inbox, "--data", archive, "--json")
    warned = " ".join(run("policy", "check", policy, "--json")["warnings"])
    assert "makes lossy copies" in warned
    assert "mammograms" in warned

    planned = run("lifecycle", "plan", *here, "--json")["totals"]
    assert {total["name"]: total["tasks"] for total in planned} == {
        "derive JPEG2000 ratio=12": 2,
        "derive JPEGXL distance=1.5": 2,
    }
    assert all(total["saved_bytes"] < 0 for total in planned)
    done = run("lifecycle", "run", *here, "--json")
    assert tasks(done) == {
        ("derive JPEG2000 ratio=12", "done"): 2,
        ("derive JPEGXL distance=1.5", "done"): 1,
        ("derive JPEGXL distance=1.5", "kept"): 1,
    }
    assert run("lifecycle", "run", *here, "--json")["tasks"] == []
    held = exported(archive, tmp_path / "out")
    assert {uid: held[uid] for uid in received} == received
    copies = [pydicom.dcmread(_file(content)) for uid, content in held.items() if uid not in received]
    originals = {uid: pydicom.dcmread(_file(content)) for uid, content in received.items()}
    assert len(copies) == 3
    for copy in copies:
        (source,) = copy.SourceImageSequence
        original = originals[source.ReferencedSOPInstanceUID]
        assert copy.StudyInstanceUID == original.StudyInstanceUID
        assert copy.SeriesInstanceUID != original.SeriesInstanceUID
        assert copy.SOPClassUID == original.SOPClassUID == source.ReferencedSOPClassUID
        assert (copy.ImageType[0], copy.LossyImageCompression) == ("DERIVED", "01")
        assert copy.LossyImageCompressionMethod in ("ISO_15444_1", "ISO_18181_1")
        assert float(copy.LossyImageCompressionRatio) > 4
        assert copy.DerivationCodeSequence[-1].CodeValue == "113040"
        assert "lossy" in copy.SeriesDescription
        exact, near = original.pixel_array.astype(float), _pixels(copy).astype(float)
        assert exact.shape == near.shape
        assert 0 < np.abs(exact - near).mean() < 0.02 * np.ptp(exact)
    ct = [copy for copy in copies if copy.Modality == "CT"]
    assert len({copy.SeriesInstanceUID for copy in ct}) == 1

    uid = str(ct[0].SourceImageSequence[0].ReferencedSOPInstanceUID)
    told = run("policy", "explain", uid, *here, "--json")
    assert told["because"]["lossy_copy"] == "CT small"
    assert told["lossy_copies"] == {"JPEG2000 ratio=12": f"made: {ct[0].SOPInstanceUID}"}
    lossy_already = next(key for key, one in originals.items() if one.Modality == "US")
    assert "lossy already" in str(run("policy", "explain", lossy_already, *here, "--json")["lossy_copies"])
    rows = run("lifecycle", "status", *here, "--json")["done"]
    assert sum(row["bytes_after"] for row in rows if row["rule"] == "CT small") > 0

    for form in ("landed", "settled"):  # what a copy was made of is found again, whatever form the copy is in
        for path in archive.glob("catalog.sqlite*"):
            path.rename(tmp_path / f"{form} {path.name}")
        run("rebuild-catalog", "--data", archive, "--json")
        told = run("policy", "explain", uid, *here, "--json")
        assert told["lossy_copies"] == {"JPEG2000 ratio=12": f"made: {ct[0].SOPInstanceUID}"}
        # What was tried and of no use is tried once more; copies that are there are not made again.
        assert tasks(run("lifecycle", "run", *here, "--json")) == {("derive JPEGXL distance=1.5", "kept"): 1}
    assert exported(archive, tmp_path / "rebuilt") == held

    run("delete", "--instance", uid, "--yes", "--data", archive)
    assert ct[0].SOPInstanceUID not in exported(archive, tmp_path / "without")

    policy.write_text(EXPIRY)
    done = run("lifecycle", "run", *here, "--json")
    assert tasks(done) == {("expire lossy copies", "done"): 2}
    policy.write_text(POLICY)
    assert run("lifecycle", "run", *here, "--json")["tasks"] == []
    left = exported(archive, tmp_path / "left")
    assert left == {one: content for one, content in received.items() if one != uid}


def test_what_cannot_be_made_is_refused_when_the_policy_is_read(tmp_path: Path) -> None:
    wrong = {
        '{ to = "JPEGXL" }': "exactly one of quality",
        '{ to = "JPEGXL", ratio = 3 }': "a ratio has no meaning here",
        '{ to = "JPEGLSLossless", near = 3 }': "the transfer syntax is lossless",
        '{ to = "JPEGXYZ", distance = 3 }': "no transfer syntax that is written here",
        '{ to = "JPEGXL", distance = 99 }': "not above 0 and up to 25",
    }
    rules = [f'[[rules]]\nname = "{number}"\n[rules.then]\nlossy_copy = {copy}' for number, copy in enumerate(wrong)]
    policy = tmp_path / "policy.toml"
    policy.write_text("\n".join(['name = "x"', *rules]))
    said = " ".join(run("policy", "check", policy, expect=3).split())
    assert [reason for reason in wrong.values() if reason not in said] == []


def _file(content: bytes) -> pydicom.filebase.DicomBytesIO:
    return pydicom.filebase.DicomBytesIO(content)


def _pixels(copy: pydicom.Dataset) -> Any:
    if copy.file_meta.TransferSyntaxUID != "1.2.840.10008.1.2.4.112":
        return copy.pixel_array
    import imagecodecs

    return imagecodecs.jpegxl_decode(next(pydicom.encaps.generate_frames(copy.PixelData, number_of_frames=1)))
