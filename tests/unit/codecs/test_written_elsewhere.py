"""Frames that were written here, read by decoders of others to the same samples."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import foreign
from contract.codec_suite import make_frame, make_spec
from leanpacs.codecs.writing import Lossy, WriteOptions, write_frame
from leanpacs.dicom import uids
from leanpacs.dicom.frames import FrameSpec

BITS = [(8, 8), (8, 5), (8, 1), (16, 16), (16, 15), (16, 12), (16, 9), (16, 8), (16, 7), (16, 1)]
GREY = [
    make_spec(21, 34, allocated=allocated, stored=stored, pixel_representation=signed)
    for allocated, stored in BITS
    for signed in (0, 1)
]
PALETTE = [make_spec(21, 34, allocated=8, photometric_interpretation="PALETTE COLOR")]
COLOUR = [
    make_spec(21, 34, allocated=allocated, stored=stored, samples=3, photometric_interpretation=photometric)
    for allocated, stored in ((8, 8), (16, 16), (16, 12))
    for photometric in ("RGB", "YBR_FULL")
]
TINY = [make_spec(1, 1, stored=12), make_spec(1, 1, allocated=8, samples=3)]
ALL = GREY + PALETTE + COLOUR + TINY
LOSSLESS = WriteOptions()


def name_of(spec: FrameSpec) -> str:
    sign = "signed" if spec.pixel_representation else "unsigned"
    return (
        f"{spec.rows}x{spec.columns}-{spec.bits_stored}in{spec.bits_allocated}-{sign}-{spec.photometric_interpretation}"
    )


def frames_of(spec: FrameSpec) -> list[NDArray[Any]]:
    return [make_frame(spec, kind) for kind in ("noise", "smooth")]


def require_program(program: str) -> None:
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed")


def same_value(words: NDArray[Any], samples: NDArray[Any], spec: FrameSpec) -> None:
    """Compare Bits Stored of each word: what stands above has no meaning (PS3.5 8.1.1), and dcmtk extends no sign."""
    mask = (1 << spec.bits_stored) - 1
    np.testing.assert_array_equal(words.astype(np.int64) & mask, samples.astype(np.int64) & mask)


# ---------------------------------------------------------------------------------------- pydicom


def refused_by_plugin(plugin: str, transfer_syntax: str, spec: FrameSpec) -> bool:
    """What the decoder itself says that it does not do, or dies of."""
    if plugin == "pillow":
        return spec.samples_per_pixel == 3 and spec.bits_stored > 8
    if plugin != "gdcm":
        return False
    if transfer_syntax == uids.JPEG_LOSSLESS_SV1:
        return spec.bits_allocated == 8 and spec.bits_stored < 8  # GDCM ends the process
    if transfer_syntax in (uids.JPEG_LS_LOSSLESS, uids.JPEG_LS_NEAR_LOSSLESS):
        signed_ones = transfer_syntax == uids.JPEG_LS_NEAR_LOSSLESS and spec.pixel_representation
        return spec.bits_stored in (6, 7) or bool(signed_ones and spec.bits_stored < 8)
    return False


@pytest.mark.parametrize(
    ("transfer_syntax", "plugin", "spec"),
    [
        pytest.param(uid, plugin, spec, id=f"{uid}-{plugin}-{name_of(spec)}")
        for uid, plugin in (
            (uids.RLE, "pydicom"),
            (uids.JPEG_LOSSLESS_SV1, "gdcm"),
            (uids.JPEG_LS_LOSSLESS, "gdcm"),
            (uids.JPEG_LS_LOSSLESS, "pyjpegls"),
            (uids.JPEG_LS_NEAR_LOSSLESS, "gdcm"),
            (uids.JPEG_LS_NEAR_LOSSLESS, "pyjpegls"),
            (uids.JPEG_2000_LOSSLESS, "gdcm"),
            (uids.JPEG_2000_LOSSLESS, "pillow"),
            (uids.JPEG_2000, "gdcm"),
        )
        for spec in ALL
        if not refused_by_plugin(plugin, uid, spec)
    ],
)
def test_pydicom(transfer_syntax: str, plugin: str, spec: FrameSpec) -> None:
    if plugin not in foreign.pydicom_plugins(transfer_syntax):
        pytest.skip(f"{plugin} is not installed")
    for samples in frames_of(spec):
        written = write_frame(samples, spec, transfer_syntax, LOSSLESS)
        decoded = foreign.by_pydicom(written, transfer_syntax, plugin)
        np.testing.assert_array_equal(decoded.astype(np.int64), samples.astype(np.int64))


# ---------------------------------------------------------------------------------------- dcmtk


@pytest.mark.external
@pytest.mark.parametrize("spec", [spec for spec in ALL if spec.bits_stored > 1], ids=name_of)
@pytest.mark.parametrize(
    ("transfer_syntax", "program", "options"),
    [
        (uids.RLE, "dcmdrle", ()),
        (uids.JPEG_LOSSLESS_SV1, "dcmdjpeg", ("--conv-never",)),
        (uids.JPEG_LS_LOSSLESS, "dcmdjpls", ()),
        (uids.JPEG_LS_NEAR_LOSSLESS, "dcmdjpls", ()),
    ],
    ids=["rle", "jpeg lossless", "jpeg-ls", "jpeg-ls near"],
)
def test_dcmtk(transfer_syntax: str, program: str, options: tuple[str, ...], spec: FrameSpec, tmp_path: Path) -> None:
    require_program(program)
    samples = make_frame(spec, "noise")
    written = write_frame(samples, spec, transfer_syntax, LOSSLESS)
    same_value(foreign.by_dcmtk(written, transfer_syntax, program, tmp_path, *options), samples, spec)


# ---------------------------------------------------------------------------------------- OpenJPEG, libjxl


@pytest.mark.parametrize("spec", ALL, ids=name_of)
@pytest.mark.parametrize(
    "transfer_syntax", [uids.JPEG_2000_LOSSLESS, uids.HTJ2K_LOSSLESS, uids.HTJ2K_LOSSLESS_RPCL, uids.HTJ2K]
)
def test_openjpeg(transfer_syntax: str, spec: FrameSpec) -> None:
    pytest.importorskip("openjpeg", reason="openjpeg is not installed: pip install 'leanpacs[crosscheck]'")
    for samples in frames_of(spec):
        written = write_frame(samples, spec, transfer_syntax, LOSSLESS)
        np.testing.assert_array_equal(foreign.by_openjpeg(written), samples)


@pytest.mark.external
@pytest.mark.parametrize("spec", ALL, ids=name_of)
@pytest.mark.parametrize("transfer_syntax", [uids.JPEG_2000_LOSSLESS, uids.HTJ2K_LOSSLESS_RPCL])
def test_opj_decompress(transfer_syntax: str, spec: FrameSpec, tmp_path: Path) -> None:
    require_program("opj_decompress")
    samples = make_frame(spec, "noise")
    written = write_frame(samples, spec, transfer_syntax, LOSSLESS)
    np.testing.assert_array_equal(foreign.by_opj_decompress(written, tmp_path), samples)


@pytest.mark.external
@pytest.mark.parametrize("spec", ALL, ids=name_of)
def test_djxl(spec: FrameSpec, tmp_path: Path) -> None:
    """Signed values are two's complement in Bits Stored: djxl knows nothing of signs, so their bits are compared."""
    require_program("djxl")
    samples = make_frame(spec, "noise")
    written = write_frame(samples, spec, uids.JPEG_XL_LOSSLESS, LOSSLESS)
    decoded = foreign.by_djxl(written, tmp_path)
    np.testing.assert_array_equal(decoded, samples.astype(np.int64) & (1 << spec.bits_stored) - 1)


# ---------------------------------------------------------------------------------------- lossy


@pytest.mark.external
@pytest.mark.parametrize("spec", [spec for spec in GREY if spec.bits_stored > 1] + COLOUR, ids=name_of)
def test_near_lossless_is_near_elsewhere(spec: FrameSpec, tmp_path: Path) -> None:
    require_program("dcmdjpls")
    near = min(3, (1 << spec.bits_stored) // 2 - 1)
    samples = make_frame(spec, "smooth")
    written = write_frame(samples, spec, uids.JPEG_LS_NEAR_LOSSLESS, WriteOptions(lossy=Lossy(near=near)))
    for plugin in foreign.pydicom_plugins(uids.JPEG_LS_NEAR_LOSSLESS):
        decoded = foreign.by_pydicom(written, uids.JPEG_LS_NEAR_LOSSLESS, plugin)
        assert np.abs(decoded.astype(int) - samples).max() <= near, plugin
    words = foreign.by_dcmtk(written, uids.JPEG_LS_NEAR_LOSSLESS, "dcmdjpls", tmp_path).astype(np.int64)
    unused = 64 - written.spec.bits_stored  # dcmtk extends no sign
    decoded = words << unused >> unused if spec.pixel_representation else words
    assert np.abs(decoded - samples).max() <= near


@pytest.mark.parametrize(
    ("transfer_syntax", "spec"),
    [
        (uids.JPEG_BASELINE, make_spec(40, 52, allocated=8)),
        (uids.JPEG_BASELINE, make_spec(40, 52, allocated=16, stored=7)),
        (uids.JPEG_EXTENDED, make_spec(40, 52, stored=12)),
        (uids.JPEG_EXTENDED, make_spec(40, 52, stored=10)),
    ],
    ids=["baseline", "baseline of words", "extended", "extended of 10 bits"],
)
@pytest.mark.external
def test_lossy_jpeg_elsewhere(transfer_syntax: str, spec: FrameSpec, tmp_path: Path) -> None:
    require_program("dcmdjpeg")
    samples = make_frame(spec, "smooth")
    written = write_frame(samples, spec, transfer_syntax, WriteOptions(lossy=Lossy(quality=95)))
    decoded = foreign.by_dcmtk(written, transfer_syntax, "dcmdjpeg", tmp_path)
    assert np.abs(decoded.astype(int) - samples).max() <= max(4, (1 << spec.bits_stored) // 100)


def test_lossy_jpeg_colour_elsewhere() -> None:
    spec = make_spec(40, 52, allocated=8, samples=3)
    row = np.linspace(20, 200, 52)
    samples = np.stack([np.tile(row, (40, 1)), np.tile(row[::-1], (40, 1)), np.full((40, 52), 90)], -1).astype(np.uint8)
    for photometric in ("RGB", "YBR_FULL"):
        source = make_spec(40, 52, allocated=8, samples=3, photometric_interpretation=photometric)
        written = write_frame(samples, source, uids.JPEG_BASELINE, WriteOptions(lossy=Lossy(quality=98)))
        assert written.spec.photometric_interpretation == "YBR_FULL_422"
        decoded = foreign.by_pydicom(written, uids.JPEG_BASELINE, "pillow").astype(float)
        # Left as YCbCr by pydicom (raw): compare in the colours that went in.
        expected = samples.astype(float)
        if photometric == "RGB":
            expected = expected @ _TO_YCBCR.T + [0, 128, 128]
        assert np.abs(decoded - expected).max() <= 4, spec


_TO_YCBCR = np.array(
    [[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]]
)  # ISO/IEC 10918-5 7


@pytest.mark.parametrize("transfer_syntax", [uids.JPEG_2000, uids.HTJ2K])
@pytest.mark.parametrize("spec", [spec for spec in GREY + COLOUR if spec.bits_stored > 6], ids=name_of)
def test_lossy_jpeg2000_elsewhere(transfer_syntax: str, spec: FrameSpec) -> None:
    """The number of bits that is declared afterwards changes no value of lossy code streams, either."""
    pytest.importorskip("openjpeg", reason="openjpeg is not installed: pip install 'leanpacs[crosscheck]'")
    samples = smooth(spec)
    written = write_frame(samples, spec, transfer_syntax, WriteOptions(lossy=Lossy(ratio=2)))
    decoded = foreign.by_openjpeg(written)
    assert decoded.dtype == samples.dtype or spec.bits_stored <= 8
    assert np.abs(decoded.astype(int) - samples).max() <= max(2, (1 << spec.bits_stored) // 200)


def smooth(spec: FrameSpec) -> NDArray[Any]:
    """A slope from end to end of the range."""
    low = -(1 << spec.bits_stored - 1) if spec.pixel_representation else 0
    plane = np.add.outer(np.arange(spec.rows), np.arange(spec.columns)) / (spec.rows + spec.columns - 2)
    values = np.rint(low + plane * ((1 << spec.bits_stored) - 1))
    if spec.samples_per_pixel == 3:
        values = np.stack([values, values[::-1], values[:, ::-1]], -1)
    return values.astype(f"{'i' if spec.pixel_representation else 'u'}{spec.bits_allocated // 8}")
