"""Frames of real files: decoded as pydicom decodes them, and held exactly by every codec."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from pydicom.encaps import generate_frames
from pydicom.pixels import pixel_array

from data import bundled, corpus, corpus_folder
from leanpacs.codecs import registry
from leanpacs.codecs.choice import measure
from leanpacs.codecs.codec import EncodeOptions
from leanpacs.codecs.native import pack
from leanpacs.codecs.samples import dtype_of
from leanpacs.dicom.frames import FrameSpec
from leanpacs.dicom.uids import transfer_syntax
from leanpacs.errors import DecodeError
from streams import frame_of

LARGEST_FRAME = 8 << 20
"""Larger frames take seconds each; codecs do not treat them in another way."""


def images(paths: list[Path]) -> Iterator[tuple[Path, str, pydicom.Dataset, FrameSpec]]:
    """Files with integer Pixel Data that pydicom can read."""
    for path in paths:
        try:
            ds = pydicom.dcmread(path)
            uid = str(ds.file_meta.TransferSyntaxUID)
            spec = frame_of(ds)
        except (AttributeError, ValueError, pydicom.errors.InvalidDicomError):
            continue
        if "PixelData" in ds and spec.rows * spec.columns * spec.bits_allocated <= 8 * LARGEST_FRAME:
            yield path, uid, ds, spec


def as_pydicom(ds: pydicom.Dataset, index: int, *, raw: bool) -> NDArray[Any] | None:
    """A frame; None when pydicom cannot decode it with the plugins at hand."""
    try:
        return pixel_array(ds, index=index, raw=raw)
    except (RuntimeError, NotImplementedError, ValueError, AttributeError):
        return None


def check_received(paths: list[Path]) -> tuple[int, int]:
    """Compare first and last frames; returns how many were equal, and how many there was nothing to compare with."""
    equal = alone = 0
    for path, uid, ds, spec in images(paths):
        if registry.for_transfer_syntax(uid) is None:
            continue
        streams = list(generate_frames(ds.PixelData, number_of_frames=spec.number_of_frames))
        for index in sorted({0, spec.number_of_frames - 1}):
            expected = as_pydicom(ds, index, raw=True)
            try:
                decoded = registry.decode_received(streams[index], uid, spec)
            except DecodeError:
                assert expected is None, f"{path}: pydicom decodes it"
                continue
            if expected is None:
                alone += 1
                continue
            is_rgb_now = decoded.photometric_interpretation == "RGB" != spec.photometric_interpretation
            if is_rgb_now or transfer_syntax(uid).lossless is False:
                shown = as_pydicom(ds, index, raw=False)
                assert shown is not None
                difference = np.abs(decoded.samples.astype(int) - shown).max()
                # Other arithmetic of cosine transform and colours gives a level more or less.
                assert difference <= 2, f"{path}: {difference}"
            else:
                np.testing.assert_array_equal(decoded.samples, expected, err_msg=str(path))
            assert decoded.samples.dtype == dtype_of(decoded.spec)
            assert len(pack(decoded.samples, decoded.spec)) == -(-decoded.spec.frame_bits // 8)
            equal += 1
    return equal, alone


def check_held(paths: list[Path]) -> int:
    """Every codec that encodes holds the first frame; returns how many frames there were."""
    count = 0
    for path, _, ds, spec in images(paths):
        samples = as_pydicom(ds, 0, raw=True)
        if samples is None or spec.bits_allocated not in (8, 16) or samples.nbytes > LARGEST_FRAME // 4:
            continue
        if samples.ndim != (2 if spec.samples_per_pixel == 1 else 3) or spec.is_subsampled:
            continue
        samples = samples.astype(dtype_of(spec))
        for codec in registry.all_codecs():
            if codec.refusal(spec):
                continue
            options = EncodeOptions(1, spec.bits_stored)
            decoded = codec.decode(codec.encode(samples, spec, options), spec, options)
            np.testing.assert_array_equal(decoded, samples, err_msg=f"{path} {codec.name}")
        assert measure(pack(samples, spec), spec).ratio < 1 or samples.nbytes < 1000
        count += 1
    return count


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """Let pydicom and GDCM say what they like of files that are irregular on purpose."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def test_received_frames_of_bundled_files() -> None:
    equal, _ = check_received(bundled())
    assert equal >= 20


@pytest.mark.corpus
def test_received_frames_of_the_corpus() -> None:
    equal, alone = check_received(corpus())
    assert equal >= 40
    assert alone >= 5


@pytest.mark.corpus
def test_one_bit_frames_of_the_corpus_are_alike_in_every_transfer_syntax() -> None:
    folder = corpus_folder() / "codecs"
    for reference, others in (
        ("liver_expb", ("liver_rle", "liver_deflate", "liver_j2k")),
        ("liver_nonbyte_aligned", tuple(f"liver_nonbyte_aligned_{form}" for form in ("rle", "deflate", "j2k"))),
    ):
        native = pydicom.dcmread(folder / f"pydicom-data__{reference}.dcm")
        for name in others:
            ds = pydicom.dcmread(folder / f"pydicom-data__{name}.dcm")
            spec, uid = frame_of(ds), str(ds.file_meta.TransferSyntaxUID)
            for index, stream in enumerate(generate_frames(ds.PixelData, number_of_frames=spec.number_of_frames)):
                decoded = registry.decode_received(stream, uid, spec)
                np.testing.assert_array_equal(decoded.samples, pixel_array(native, index=index), err_msg=name)


@pytest.mark.corpus
def test_htj2k_of_the_corpus_by_a_second_decoder() -> None:
    openjpeg = pytest.importorskip("openjpeg", reason="openjpeg is not installed: pip install 'leanpacs[crosscheck]'")
    for name, largest in (("HTJ2KLossless_08_RGB", 0), ("HTJ2K_08_RGB", 2)):
        ds = pydicom.dcmread(corpus_folder() / "codecs" / f"pydicom-data__{name}.dcm")
        stream = next(generate_frames(ds.PixelData, number_of_frames=1))
        decoded = registry.decode_received(stream, str(ds.file_meta.TransferSyntaxUID), frame_of(ds))
        assert np.abs(decoded.samples.astype(int) - openjpeg.decode(stream)).max() <= largest


def test_every_codec_holds_frames_of_bundled_files() -> None:
    assert check_held(bundled()) >= 20


@pytest.mark.corpus
def test_every_codec_holds_frames_of_the_corpus() -> None:
    assert check_held(corpus()) >= 60
