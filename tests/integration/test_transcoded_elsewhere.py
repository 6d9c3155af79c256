"""Programs that are not ours read what is transcoded: dcmtk, GDCM, and djxl."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import imagecodecs
import numpy as np
import pydicom
import pytest

from data import EXPLICIT_BE, EXPLICIT_LE, IMPLICIT_LE, JPEG_LOSSLESS, JPEG_LS, JPEG_XL, RLE, Recipe, make_instance
from dimse_peer import dcmtk
from leanpacs.codecs.writing import Lossy, WriteOptions
from leanpacs.dicom import uids
from leanpacs.transcode import Target
from transcoding import read_elsewhere, transcoded

DECODERS = {
    IMPLICIT_LE: "dcmconv",
    EXPLICIT_LE: "dcmconv",
    EXPLICIT_BE: "dcmconv",
    uids.DEFLATED_LE: "dcmconv",
    RLE: "dcmdrle",
    JPEG_LOSSLESS: "dcmdjpeg",
    JPEG_LS: "dcmdjpls",
    uids.JPEG_LS_NEAR_LOSSLESS: "dcmdjpls",
}
RECIPES = {
    "gray 12 of 16": Recipe(frames=2),
    "gray 16": Recipe(bits_stored=16, content="noise"),
    "signed 12 of 16": Recipe(signed=True, frames=2),
    "gray 8, odd": Recipe(bits_allocated=8, bits_stored=8, rows=13, columns=7, frames=3),
    "colour with icon": Recipe(modality="US", samples=3, bits_allocated=8, bits_stored=8, icon=True),
    "palette": Recipe(modality="US", bits_allocated=8, bits_stored=8, photometric="PALETTE COLOR"),
}


def given(content: bytes, program: str, folder: Path, *options: str) -> bytes:
    """What a program of dcmtk makes of a file."""
    (folder / "ours.dcm").write_bytes(content)
    run = subprocess.run(
        [dcmtk(program), *options, "ours.dcm", "theirs.dcm"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    return (folder / "theirs.dcm").read_bytes()


def header(content: bytes) -> pydicom.Dataset:
    return pydicom.dcmread(pydicom.filebase.DicomBytesIO(content))


@pytest.mark.external
@pytest.mark.parametrize("target", DECODERS)
@pytest.mark.parametrize("kind", RECIPES)
def test_dcmtk_reads_the_same_pixels(kind: str, target: str, tmp_path: Path) -> None:
    content = make_instance(RECIPES[kind])
    ours, _ = transcoded(content, Target(target, anew=True))
    theirs = given(ours, DECODERS[target], tmp_path, *(["+te"] if DECODERS[target] == "dcmconv" else []))
    assert np.array_equal(read_elsewhere(theirs), read_elsewhere(content))
    assert header(theirs).SOPInstanceUID == RECIPES[kind].sop_uid


@pytest.mark.external
@pytest.mark.parametrize("target", [RLE, JPEG_LOSSLESS, JPEG_LS, uids.JPEG_2000_LOSSLESS])
@pytest.mark.parametrize("kind", [kind for kind in RECIPES if kind != "palette"])  # ours lacks tables, GDCM wants them
def test_gdcmconv_reads_the_same_pixels(kind: str, target: str, tmp_path: Path) -> None:
    gdcmconv = shutil.which("gdcmconv", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    if gdcmconv is None:
        pytest.skip("gdcmconv is not installed (PyPI python-gdcm, Debian libgdcm-tools)")
    content = make_instance(RECIPES[kind])
    (tmp_path / "ours.dcm").write_bytes(transcoded(content, Target(target, anew=True))[0])
    run = subprocess.run(
        [gdcmconv, "--raw", "ours.dcm", "theirs.dcm"], cwd=tmp_path, capture_output=True, timeout=60, check=False
    )
    assert run.returncode == 0, run.stderr
    theirs = (tmp_path / "theirs.dcm").read_bytes()
    assert np.array_equal(read_elsewhere(theirs), read_elsewhere(content))
    assert header(theirs).SOPInstanceUID == RECIPES[kind].sop_uid


@pytest.mark.external
@pytest.mark.parametrize("bits", [8, 12])
def test_dcmtk_reads_lossy_jpeg(bits: int, tmp_path: Path) -> None:
    recipe = Recipe(rows=64, columns=64, bits_allocated=8 if bits == 8 else 16, bits_stored=bits)
    target = uids.JPEG_BASELINE if bits == 8 else uids.JPEG_EXTENDED
    ours, _ = transcoded(make_instance(recipe), Target(target, WriteOptions(lossy=Lossy(quality=95))))
    theirs = given(ours, "dcmdjpeg", tmp_path)
    found, original = (read_elsewhere(content).astype(int) for content in (theirs, make_instance(recipe)))
    assert 0 < np.abs(found - original).mean() < 2**bits / 50


@pytest.mark.external
def test_dcmtk_puts_icons_into_native_copies(tmp_path: Path) -> None:
    content = make_instance(RECIPES["colour with icon"])
    theirs = given(transcoded(content, JPEG_LS)[0], "dcmdjpls", tmp_path)
    icons = [header(one).IconImageSequence[0].PixelData for one in (theirs, content)]
    assert icons[0] == icons[1]


@pytest.mark.external
@pytest.mark.parametrize("kind", ["gray 16", "gray 8, odd", "colour with icon"])
def test_djxl_reads_jpeg_xl_frames(kind: str, tmp_path: Path) -> None:
    djxl = shutil.which("djxl")
    if djxl is None:
        pytest.skip("djxl is not installed")
    content = make_instance(RECIPES[kind])
    made = header(transcoded(content, JPEG_XL)[0])
    stream = next(pydicom.encaps.generate_frames(made.PixelData, number_of_frames=int(made.get("NumberOfFrames", 1))))
    (tmp_path / "frame.jxl").write_bytes(stream)
    subprocess.run([djxl, "frame.jxl", "frame.png"], cwd=tmp_path, check=True, timeout=60, capture_output=True)
    original = read_elsewhere(content)
    assert original is not None
    assert np.array_equal(imagecodecs.png_decode((tmp_path / "frame.png").read_bytes()), original[0])
