"""Codecs by name and transfer syntax, and received code streams of every kind."""

from __future__ import annotations

import subprocess
import sys
import zlib
from typing import Any

import imagecodecs
import numpy as np
import pytest
from numpy.typing import NDArray

from contract.codec_suite import make_frame, make_spec
from leanpacs.codecs import registry
from leanpacs.codecs.bytewise import Bytewise
from leanpacs.codecs.codec import EncodeOptions
from leanpacs.codecs.native import pack
from leanpacs.dicom import uids
from leanpacs.errors import DecodeError, UnsupportedTransferSyntax

PREFIX = "1.2.840.10008.1.2."

SYNTAXES = {
    "5": "rle",
    **{f"4.{process}": "jpeg" for process in (50, 51, 52, 53, 54, 55, 56, 57, 58, 70)},
    "4.80": "jpegls",
    "4.81": "jpegls",
    "4.90": "jpeg2000",
    "4.91": "jpeg2000",
    "4.92": "jpeg2000",
    "4.93": "jpeg2000",
    "4.201": "htj2k",
    "4.202": "htj2k",
    "4.203": "htj2k",
    "4.110": "jpegxl",
    "4.111": "jpegxl",
    "4.112": "jpegxl",
    "8.1": "deflate",
    "1.98": "raw",
}


def test_every_transfer_syntax_has_a_codec_or_none() -> None:
    found = {uid: registry.for_transfer_syntax(uid) for uid in uids.TRANSFER_SYNTAXES}
    named = {uid: codec.name for uid, codec in found.items() if codec is not None}
    assert named == {PREFIX + uid: name for uid, name in SYNTAXES.items()}


def test_names_are_unique() -> None:
    assert {codec.name for codec in registry.all_codecs()} == {*SYNTAXES.values(), "delta", "zstd"}
    extensions = [codec.extension for codec in registry.all_codecs()]
    assert len(set(extensions)) == len(extensions)
    assert all(registry.by_name(codec.name) is codec for codec in registry.all_codecs())


def test_codecs_of_bytes() -> None:
    of_bytes = {codec.name for codec in registry.all_codecs() if isinstance(codec, Bytewise)}
    assert of_bytes == {"zstd", "deflate", "raw"}


@pytest.mark.parametrize("name", ["", "jxl", "mpeg"])
def test_unknown_names(name: str) -> None:
    with pytest.raises(UnsupportedTransferSyntax):
        registry.by_name(name)


@pytest.mark.parametrize("uid", [uids.EXPLICIT_LE, PREFIX + "4.102", "1.2.3", ""])
def test_transfer_syntaxes_without_codec(uid: str) -> None:
    assert registry.for_transfer_syntax(uid) is None
    with pytest.raises(UnsupportedTransferSyntax):
        registry.decode_received(b"", uid, make_spec(2, 2))


def encoded(uid: str, samples: NDArray[Any]) -> bytes:
    """A code stream of unsigned samples in this transfer syntax, made without our codecs where that can be."""
    if uid in (uids.JPEG_LOSSLESS, uids.JPEG_LOSSLESS_SV1):
        return bytes(imagecodecs.jpeg8_encode(samples, lossless=True, predictor=1))
    if uid in (uids.JPEG_LS_LOSSLESS, uids.JPEG_LS_NEAR_LOSSLESS):
        return bytes(imagecodecs.jpegls_encode(samples))
    if uid in (uids.JPEG_2000_LOSSLESS, uids.JPEG_2000):
        return bytes(imagecodecs.jpeg2k_encode(samples, codecformat="j2k", reversible=True))
    if uid in (uids.HTJ2K_LOSSLESS, uids.HTJ2K_LOSSLESS_RPCL, uids.HTJ2K):
        return bytes(imagecodecs.htj2k_encode(samples))
    if uid in (uids.JPEG_XL_LOSSLESS, uids.JPEG_XL):
        return bytes(imagecodecs.jpegxl_encode(samples, lossless=True, effort=3))
    if uid == uids.DEFLATED_FRAME:
        deflate = zlib.compressobj(wbits=-15)
        return deflate.compress(samples.tobytes()) + deflate.flush()
    if uid == uids.ENCAPSULATED_UNCOMPRESSED:
        return samples.tobytes()
    bits = 8 * samples.itemsize
    spec = make_spec(*samples.shape[:2], allocated=bits, samples=1 if samples.ndim == 2 else 3)
    return registry.by_name("rle").encode(samples, spec, EncodeOptions(1, bits))


LOSSLESS = [
    uids.RLE,
    uids.JPEG_LOSSLESS,
    uids.JPEG_LOSSLESS_SV1,
    uids.JPEG_LS_LOSSLESS,
    uids.JPEG_LS_NEAR_LOSSLESS,
    uids.JPEG_2000_LOSSLESS,
    uids.JPEG_2000,
    uids.HTJ2K_LOSSLESS,
    uids.HTJ2K_LOSSLESS_RPCL,
    uids.HTJ2K,
    uids.JPEG_XL_LOSSLESS,
    uids.JPEG_XL,
    uids.DEFLATED_FRAME,
    uids.ENCAPSULATED_UNCOMPRESSED,
]


@pytest.mark.parametrize("uid", LOSSLESS)
def test_received_frames(uid: str) -> None:
    for allocated, padding in ((8, b""), (8, b"\0"), (16, b"")):
        spec = make_spec(23, 17, allocated=allocated)
        samples = make_frame(spec, "smooth")
        decoded = registry.decode_received(encoded(uid, samples) + padding, uid, spec)
        np.testing.assert_array_equal(decoded.samples, samples)
        assert decoded.samples.dtype == samples.dtype
        assert pack(decoded.samples, decoded.spec) == samples.tobytes()


@pytest.mark.parametrize("uid", LOSSLESS)
def test_received_signed_frames(uid: str) -> None:
    spec = make_spec(23, 18, pixel_representation=1)
    samples = make_frame(spec, "smooth") - np.int16(3)
    decoded = registry.decode_received(encoded(uid, samples.view(np.uint16)), uid, spec)
    np.testing.assert_array_equal(decoded.samples, samples)


@pytest.mark.parametrize("uid", [uid for uid in LOSSLESS if not uid.endswith((".1.98", ".8.1"))])
def test_received_colour(uid: str) -> None:
    spec = make_spec(23, 18, allocated=8, samples=3, planar_configuration=1)
    samples = make_frame(spec, "smooth")
    decoded = registry.decode_received(encoded(uid, samples), uid, spec)
    np.testing.assert_array_equal(decoded.samples, samples)
    assert decoded.spec.planar_configuration == 0
    assert decoded.photometric_interpretation == "RGB"


@pytest.mark.parametrize("uid", LOSSLESS)
def test_damaged_received_frames(uid: str) -> None:
    spec = make_spec(23, 18)
    stream = encoded(uid, make_frame(spec, "smooth"))
    for cut in (0, 1, 30):
        with pytest.raises(DecodeError):
            registry.decode_received(stream[:cut], uid, spec)


def test_one_bit_frames_under_deflate() -> None:
    spec = make_spec(15, 17, allocated=1)
    samples = np.random.default_rng(1).integers(0, 2, (15, 17)).astype(np.uint8)
    stream = encoded(uids.DEFLATED_FRAME, np.packbits(samples, bitorder="little"))
    decoded = registry.decode_received(stream, uids.DEFLATED_FRAME, spec)
    np.testing.assert_array_equal(decoded.samples, samples)


def test_native_libraries_are_loaded_when_they_are_needed() -> None:
    code = (
        "import sys; import leanpacs.codecs.choice, leanpacs.codecs.registry;"
        "assert not {'imagecodecs', 'zstandard'} & set(sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
