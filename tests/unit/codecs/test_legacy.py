"""Received code streams are made again byte for byte, by the package and by the stand-alone restorer."""

from __future__ import annotations

import importlib.util
import io
import json
import re
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import imagecodecs
import jpeg_ls
import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.encaps import generate_frames

import writers
from data import bundled, corpus, corpus_folder
from leanpacs.codecs.legacy import RECODABLE, Recoded, rebuild, recode
from leanpacs.codecs.legacy.packbits import RULES
from leanpacs.codecs.ljpeg import HuffmanTable
from leanpacs.codecs.registry import decode_received
from leanpacs.dicom.frames import FrameSpec
from leanpacs.dicom.uids import (
    JPEG_BASELINE,
    JPEG_EXTENDED,
    JPEG_LOSSLESS,
    JPEG_LOSSLESS_SV1,
    JPEG_LS_LOSSLESS,
    JPEG_LS_NEAR_LOSSLESS,
    RLE,
)
from leanpacs.errors import CodecError, UnsupportedFrame
from lossless import encode as encode_lossless
from writers import BYTES, COLOUR, GREY, SIGNED, image, native_file, stream_in

ROOT = Path(__file__).parents[3]


def _restorer() -> ModuleType:
    spec = importlib.util.spec_from_file_location("leanpacs_restore", ROOT / "restore" / "leanpacs_restore.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


RESTORER = _restorer()


def by_restorer(recoded: Recoded, spec: FrameSpec) -> bytes:
    """What the stand-alone restorer makes of it."""
    pixel = {
        "rows": spec.rows,
        "columns": spec.columns,
        "samples": spec.samples_per_pixel,
        "allocated": spec.bits_allocated,
        "signed": spec.pixel_representation,
        "planar": spec.planar_configuration,
        "big_endian": 0,
        "ext": recoded.extension,
    }
    recipe = json.loads(json.dumps(dict(recoded.recipe)))
    made: bytes = RESTORER.received_stream(pixel, recipe, recoded.stream, RESTORER.Zstandard({}))
    return made


def require_made_again(stream: bytes, transfer_syntax: str, spec: FrameSpec, effort: int = 3) -> Recoded:
    """Recode, make it again in both ways, compare."""
    recoded = recode(stream, transfer_syntax, spec, effort)
    assert len(recoded.stream) < len(stream)
    recipe = json.loads(json.dumps(dict(recoded.recipe)))
    assert rebuild(recoded.stream, recipe, recoded.codec, spec) == stream
    assert by_restorer(recoded, spec) == stream
    return recoded


def outcome(stream: bytes, transfer_syntax: str, spec: FrameSpec, effort: int = 3) -> Recoded | str:
    """Recoded, or why not."""
    try:
        return recode(stream, transfer_syntax, spec, effort)
    except UnsupportedFrame as error:
        return str(error)


def require_made_again_if_smaller(stream: bytes, transfer_syntax: str, spec: FrameSpec) -> None:
    """Make it again, unless it was small already; that is looked at last."""
    refused = outcome(stream, transfer_syntax, spec, 7)
    if isinstance(refused, str):
        assert "save nothing" in refused
    else:
        require_made_again(stream, transfer_syntax, spec, 7)


def jpeg(spec: FrameSpec) -> bytes:
    """Baseline JPEG of the test image."""
    return bytes(imagecodecs.jpeg8_encode(image(spec), level=80))


# ------------------------------------------------------------------------------------------------- JPEG


@pytest.mark.parametrize("spec", [BYTES, COLOUR], ids=["grey", "colour"])
@pytest.mark.parametrize("padding", [b"", b"\0", b"\0\0\x12"])
def test_jpeg_is_recompressed_with_whatever_follows_it(spec: FrameSpec, padding: bytes) -> None:
    spec = replace(spec, rows=240, columns=320)
    recoded = require_made_again(jpeg(spec) + padding, JPEG_BASELINE, spec)
    assert (recoded.codec, recoded.extension, dict(recoded.recipe)) == ("jpegxl", "jxl", {"kind": "jpeg"})


@pytest.mark.external
def test_djxl_makes_the_jpeg_again() -> None:
    spec = replace(COLOUR, rows=240, columns=320)
    stream = jpeg(spec) + b"\0"
    assert RESTORER.reconstructed_by_program(recode(stream, JPEG_BASELINE, spec, 3).stream) == stream


def test_jpeg_of_12_bits_is_refused_with_a_reason() -> None:
    path = Path(str(pydicom.data.get_testdata_file("JPEG-lossy.dcm")))
    stream, syntax = stream_in(path)
    assert syntax == JPEG_EXTENDED
    with pytest.raises(UnsupportedFrame, match="libjxl does not take this JPEG"):
        recode(stream, syntax, replace(GREY, rows=1024, columns=256), 3)


# --------------------------------------------------------------------------------------------- JPEG-LS


@pytest.mark.parametrize("bits", [7, 8, 10, 12, 16])
@pytest.mark.parametrize("near", [0, 2])
def test_jpeg_ls_of_pyjpegls(bits: int, near: int) -> None:
    allocated = 8 if bits <= 8 else 16
    spec = replace(GREY, bits_allocated=allocated, bits_stored=bits, high_bit=bits - 1)
    stream = bytes(
        jpeg_ls.encode_buffer(
            image(spec).tobytes(),
            rows=spec.rows,
            columns=spec.columns,
            samples_per_pixel=1,
            bits_stored=bits,
            lossy_error=near,
        )
    )
    if near and "encoded again it" in str(outcome(stream, JPEG_LS_NEAR_LOSSLESS, spec)):
        return  # what an error was allowed in may end a run elsewhere; lossless ones are always the same
    require_made_again_if_smaller(stream, JPEG_LS_NEAR_LOSSLESS if near else JPEG_LS_LOSSLESS, spec)


@pytest.mark.parametrize("interleave", [0, 1, 2])
@pytest.mark.parametrize("near", [0, 1])
def test_interleave_modes_of_jpeg_ls(interleave: int, near: int) -> None:
    spec, samples = COLOUR, image(COLOUR)
    ordered = np.moveaxis(samples, 2, 0) if interleave == 0 else samples
    stream = bytes(
        jpeg_ls.encode_buffer(
            ordered.tobytes(),
            rows=spec.rows,
            columns=spec.columns,
            samples_per_pixel=3,
            bits_stored=8,
            lossy_error=near,
            interleave_mode=interleave,
        )
    )
    if near and "encoded again it" in str(outcome(stream, JPEG_LS_NEAR_LOSSLESS, spec)):
        return
    require_made_again_if_smaller(stream, JPEG_LS_LOSSLESS, spec)
    if not near:
        recoded = require_made_again(stream, JPEG_LS_LOSSLESS, spec, 7)
        assert len(recoded.recipe["segments"]) == (4 if interleave == 0 else 2)
        np.testing.assert_array_equal(decode_received(stream, JPEG_LS_LOSSLESS, spec).samples, samples)


@pytest.mark.external
@pytest.mark.parametrize("spec", [GREY, SIGNED, BYTES, COLOUR], ids=["grey", "signed", "bytes", "colour"])
@pytest.mark.parametrize("options", [[], ["+il"], ["+in"]], ids=["usual", "line", "none"])
def test_jpeg_ls_of_dcmtk(tmp_path: Path, spec: FrameSpec, options: list[str]) -> None:
    native = native_file(spec, image(spec), tmp_path / "native.dcm")
    require_made_again_if_smaller(*stream_in(writers.by_dcmtk("dcmcjpls", options, native)), spec)


@pytest.mark.parametrize("spec", [GREY, SIGNED, BYTES, COLOUR], ids=["grey", "signed", "bytes", "colour"])
@pytest.mark.parametrize(
    "syntax", ["JPEGLSLossless", "JPEGLosslessProcess14_1", "JPEGLosslessProcess14", "RLELossless"]
)
def test_streams_of_gdcm(tmp_path: Path, spec: FrameSpec, syntax: str) -> None:
    native = native_file(spec, image(spec), tmp_path / "native.dcm")
    require_made_again_if_smaller(*stream_in(writers.by_gdcm(syntax, native)), spec)


# ----------------------------------------------------------------------------------------- JPEG Lossless


@pytest.mark.external
@pytest.mark.parametrize("spec", [GREY, SIGNED, BYTES, COLOUR], ids=["grey", "signed", "bytes", "colour"])
@pytest.mark.parametrize(
    "options",
    [["+e1"], ["+e1", "+ho"], *(["+el", "+sv", str(predictor)] for predictor in range(1, 8)), ["+e1", "+pt", "0"]],
    ids=lambda options: "".join(options),
)
def test_jpeg_lossless_of_dcmtk(tmp_path: Path, spec: FrameSpec, options: list[str]) -> None:
    native = native_file(spec, image(spec), tmp_path / "native.dcm")
    stream, syntax = stream_in(writers.by_dcmtk("dcmcjpeg", options, native))
    assert syntax in (JPEG_LOSSLESS, JPEG_LOSSLESS_SV1)
    require_made_again(stream, syntax, spec, 7)


@pytest.mark.parametrize("restart_rows", [0, 1, 10])
@pytest.mark.parametrize("spec", [GREY, COLOUR], ids=["grey", "colour"])
def test_restart_intervals_of_jpeg_lossless(restart_rows: int, spec: FrameSpec) -> None:
    flat = HuffmanTable((0, 0, 0, 0, 17, *[0] * 11), tuple(range(17)))
    tables = [flat] * spec.samples_per_pixel
    stream = encode_lossless(image(spec), spec.bits_stored, 6, tables, 0, restart_rows)
    require_made_again(stream, JPEG_LOSSLESS, spec)


# --------------------------------------------------------------------------------------------------- RLE


def cells(kind: int, spec: FrameSpec, seed: int) -> np.ndarray:
    """Flat steps, noise of few values, noise, long runs: where writers of RLE differ."""
    generator = np.random.default_rng(seed)
    shape = (spec.rows, spec.columns, spec.samples_per_pixel)
    values = generator.integers(0, (2, 3, 256, 40)[kind], shape)
    if kind == 3:
        values = np.repeat(values, 131, axis=1)[:, : spec.columns]
    array = np.ascontiguousarray(values.astype(f"u{spec.bits_allocated // 8}"))
    return array[..., 0] if shape[2] == 1 else array


RLE_SPECS = [replace(spec, columns=columns) for spec in (BYTES, GREY, COLOUR) for columns in (131, 600)]


@pytest.mark.external
@pytest.mark.parametrize("kind", range(4))
@pytest.mark.parametrize("spec", RLE_SPECS, ids=lambda spec: f"{spec.samples_per_pixel}x{spec.bits_allocated}")
def test_rle_of_dcmtk_and_pydicom(tmp_path: Path, spec: FrameSpec, kind: int) -> None:
    spec = replace(spec, rows=16, bits_stored=spec.bits_allocated, high_bit=spec.bits_allocated - 1)
    native = native_file(spec, cells(kind, spec, spec.columns), tmp_path / "native.dcm")
    require_made_again_if_smaller(*stream_in(writers.by_dcmtk("dcmcrle", [], native)), spec)
    require_made_again_if_smaller(*stream_in(writers.by_pydicom(native, RLE, "pydicom")), spec)


def test_images_of_few_levels_are_held_as_indexes(tmp_path: Path) -> None:
    spec = replace(SIGNED, rows=120, columns=130)
    samples = (image(replace(spec, bits_stored=6)) * 640).astype("i2")
    native = native_file(spec, samples, tmp_path / "native.dcm")
    recoded = require_made_again(*stream_in(writers.by_pydicom(native, RLE, "pydicom")), spec)
    assert len(recoded.recipe["levels"]) <= 64
    assert recoded.precision <= 6


@pytest.mark.parametrize("name", list(RULES))
@given(row=st.lists(st.tuples(st.integers(0, 3), st.integers(1, 300)), max_size=8))
@settings(max_examples=50)
def test_each_rule_writes_what_packbits_reads(name: str, row: list[tuple[int, int]]) -> None:
    plain = b"".join(bytes([value]) * count for value, count in row)
    coded = RULES[name].row(plain)
    read = io.BytesIO(coded)
    out = bytearray()
    while head := read.read(1):
        assert head[0] != 128
        out += read.read(head[0] + 1) if head[0] < 128 else read.read(1) * (257 - head[0])
    assert bytes(out) == plain


def test_rules_on_the_page_are_those_used() -> None:
    page = (ROOT / "docs" / "reference" / "pack-format.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([a-z0-9-]+)` \| `(\(.+?)` \| (?:`(.+?)`|the same.*?) \| [A-Za-z0-9 .]+ \|$", page, re.M)
    said = {name: (run, literal) for name, run, literal in rows}
    assert set(said) == set(RULES)
    for name, (run, literal) in said.items():
        assert run.replace(r"\|", "|") == RULES[name].run.pattern.decode()
        if literal:
            assert literal.replace(r"\|", "|") == RULES[name].literal.pattern.decode()


# --------------------------------------------------------------------------------------- whatever comes


def samples_of_each_family() -> list[tuple[bytes, str, FrameSpec]]:
    """One code stream of each kind."""
    from leanpacs.codecs import registry
    from leanpacs.codecs.codec import EncodeOptions

    flat = HuffmanTable((0, 0, 0, 0, 17, *[0] * 11), tuple(range(17)))
    rle = registry.by_name("rle").encode(image(GREY), GREY, EncodeOptions(1, 12))
    near = jpeg_ls.encode_array(image(BYTES), lossy_error=1)
    return [
        (jpeg(COLOUR), JPEG_BASELINE, COLOUR),
        (bytes(near), JPEG_LS_NEAR_LOSSLESS, BYTES),
        (encode_lossless(image(GREY), 12, 1, [flat]), JPEG_LOSSLESS_SV1, GREY),
        (rle, RLE, GREY),
    ]


@pytest.mark.parametrize("family", range(4), ids=["jpeg", "jpegls", "ljpeg", "rle"])
def test_damaged_streams_are_made_again_or_refused(family: int) -> None:
    stream, syntax, spec = samples_of_each_family()[family]
    generator = np.random.default_rng(family)
    outcomes: Counter[str] = Counter()
    for _ in range(150):
        damaged = bytearray(stream)
        for _ in range(generator.integers(1, 4)):
            damaged[generator.integers(len(damaged))] ^= 1 << generator.integers(8)
        if generator.integers(4) == 0:
            del damaged[generator.integers(len(damaged)) :]
        try:
            recoded = recode(bytes(damaged), syntax, spec, 1)
        except CodecError:
            outcomes["refused"] += 1
        else:
            assert rebuild(recoded.stream, recoded.recipe, recoded.codec, spec) == damaged
            outcomes["made again"] += 1
    assert outcomes["refused"]


def test_other_syntaxes_are_not_recoded() -> None:
    with pytest.raises(UnsupportedFrame, match="are not recoded"):
        recode(b"", "1.2.840.10008.1.2.4.90", GREY, 3)


# ------------------------------------------------------------------------------------------- real files

REASONS = re.compile(
    "save nothing|libjxl does not take|encoded again it|a rule that is not known|does not give .* back"
)


def test_bundled_files_are_made_again_or_refused_with_a_reason() -> None:
    require_all(bundled())


@pytest.mark.corpus
def test_real_files_are_made_again_or_refused_with_a_reason() -> None:
    corpus_folder()
    received, kept = require_all(corpus())
    jpegs = (JPEG_BASELINE, JPEG_EXTENDED)
    assert 0.7 < sum(kept[uid] for uid in jpegs) / sum(received[uid] for uid in jpegs) < 0.9
    for uid in (JPEG_LOSSLESS, JPEG_LOSSLESS_SV1, JPEG_LS_LOSSLESS, RLE):
        assert kept[uid] < received[uid]


def require_all(paths: list[Path]) -> tuple[Counter[str], Counter[str]]:
    """Recode every frame; bytes as received and as kept, by transfer syntax."""
    received: Counter[str] = Counter()
    kept: Counter[str] = Counter()
    for path in paths:
        try:
            ds = pydicom.dcmread(path)
            uid = str(ds.file_meta.TransferSyntaxUID)
            if uid not in RECODABLE or "PixelData" not in ds:
                continue
        except (AttributeError, pydicom.errors.InvalidDicomError):
            continue
        spec = spec_of(ds)
        for stream in generate_frames(ds.PixelData, number_of_frames=spec.number_of_frames):
            received[uid] += len(stream)
            kept[uid] += len(stream) if (made := made_again(path, stream, uid, spec)) is None else made
    return received, kept


def made_again(path: Path, stream: bytes, uid: str, spec: FrameSpec) -> int | None:
    """Bytes that it takes recoded, None when it stays as it is."""
    recoded = outcome(stream, uid, spec)
    if isinstance(recoded, str):
        assert REASONS.search(recoded), f"{path}: {recoded}"
        # What is lossless and not RLE is determined by its segments.
        is_determined = uid in (JPEG_LOSSLESS, JPEG_LOSSLESS_SV1, JPEG_LS_LOSSLESS)
        assert not is_determined or "save nothing" in recoded, f"{path}: {recoded}"
        return None
    assert rebuild(recoded.stream, recoded.recipe, recoded.codec, spec) == stream, path
    return len(recoded.stream)


def spec_of(ds: pydicom.Dataset) -> FrameSpec:
    """The Image Pixel attributes, as pydicom reads them."""
    return FrameSpec(
        rows=ds.Rows,
        columns=ds.Columns,
        samples_per_pixel=ds.SamplesPerPixel,
        bits_allocated=ds.BitsAllocated,
        bits_stored=ds.BitsStored,
        high_bit=ds.HighBit,
        pixel_representation=ds.PixelRepresentation,
        planar_configuration=ds.get("PlanarConfiguration") or 0,
        photometric_interpretation=ds.PhotometricInterpretation,
        number_of_frames=int(ds.get("NumberOfFrames") or 1),
    )
