"""Received code streams of unusual kinds: decoded by the rules of the reference page, or refused with a reason."""

from __future__ import annotations

import base64
import zlib
from dataclasses import replace

import imagecodecs
import numpy as np
import pytest

from contract.codec_suite import make_frame, make_spec
from leanpacs.codecs.headers import extension_markers
from leanpacs.codecs.native import pack, unpack_subsampled
from leanpacs.codecs.registry import decode_received
from leanpacs.dicom import uids
from leanpacs.errors import DecodeError, UnsupportedFrame, UnsupportedTransferSyntax

PREFIX = "1.2.840.10008.1.2.4."

# Made with cjpeg of libjpeg-turbo 2.1.5 at quality 95, arithmetic coding: a ramp of 16 by 24 pixels
ARITHMETIC = base64.b85decode(
    "|JeWF01!$>Nk#wx0RR9200961|JwjV00IF40RaI50RaI50s;a81OoyB0s;jD1Oo&H1qKEN1qKEN2MGuU2MGrT1_%oX2?`1d3JL}Y3k(Yi3<"
    "(Mf3jfIf3kU!Z02l!Q5di<p00saM5C#9*00;pA002J#{{ZgkJ;P(WhW>rHBaJ12*DM)g$V0uHoW^Nw(&l$m$BMH?w|1ar+Uit5|Je"
)
ARITHMETIC_PROGRESSIVE = base64.b85decode(
    "|JeWF01!$>Nk#wx0RR9200961|JwjV00IF40RaI50RaI50s;a81OoyB0s;jD1Oo&H1qKEN1qKEN2MGuU2MGrT1_%oX2?`1d3JL}Y3k(Yi3<"
    "(Mf3jfLg3kU!Z02l!Q5di<p00aOK|Jncu0RaF200I91-OCKDLCm-MwExTi1P}%P+5iXv0RRC70v0q+B%?*kz{WZUfd9+@1P}%P+5iXv0RRR+"
    "0t(FEmQ{fN%m4%s1^?Or2mt{A0Y4$7;|bd>u1^2j00;pA0000GQ2)#T1P}%P+5iXv0RRC%5UCI(e)azVQ2*H"
)

# ---------------------------------------------------------------------------------------------------- JPEG


@pytest.mark.parametrize("stream", [ARITHMETIC, ARITHMETIC_PROGRESSIVE])
@pytest.mark.parametrize("process", [52, 54, 56])
def test_arithmetic_coding(stream: bytes, process: int) -> None:
    row, column = np.indices((16, 24))
    decoded = decode_received(stream, f"{PREFIX}{process}", make_spec(16, 24, allocated=8))
    assert np.abs(decoded.samples.astype(int) - (7 * row + 5 * column) % 256).max() <= 5


@pytest.mark.parametrize(
    ("marker", "said"), [(0xC5, "hierarchical"), (0xCB, "arithmetic coding"), (0xCF, "hierarchical"), (0xF7, "JPEG-LS")]
)
def test_processes_that_no_library_decodes(marker: int, said: str) -> None:
    stream = bytearray(ARITHMETIC)
    stream[stream.index(b"\xff\xc9") + 1] = marker
    with pytest.raises(UnsupportedFrame, match=said):
        decode_received(bytes(stream), uids.JPEG_EXTENDED, make_spec(16, 24, allocated=8))


def test_frames_that_others_refine() -> None:
    hierarchy = b"\xff\xde\0\x0b\x08\0\x10\0\x18\x01\x01\x11\0"
    stream = ARITHMETIC[:2] + hierarchy + ARITHMETIC[2:]
    with pytest.raises(UnsupportedFrame, match="hierarchical"):
        decode_received(stream, uids.JPEG_BASELINE, make_spec(16, 24, allocated=8))
    with pytest.raises(UnsupportedTransferSyntax):
        decode_received(stream, PREFIX + "59", make_spec(16, 24, allocated=8))


@pytest.mark.parametrize("photometric", ["YBR_FULL", "YBR_PARTIAL_420"])
def test_lossy_colour_of_twelve_bits(photometric: str) -> None:
    spec = make_spec(16, 24, stored=12, samples=3, photometric_interpretation=photometric)
    samples = (np.indices((16, 24)).sum(axis=0)[..., np.newaxis] * np.array([90, 40, 100])).astype(np.uint16)
    stream = imagecodecs.jpeg8_encode(samples, level=100, bitspersample=12, subsampling="444")
    decoded = decode_received(bytes(stream), uids.JPEG_EXTENDED, spec)
    assert decoded.photometric_interpretation == "RGB"
    assert np.abs(decoded.samples.astype(int) - samples).max() <= 8


# ---------------------------------------------------------------------------------------------------- JPEG 2000


@pytest.mark.parametrize(
    ("photometric", "expected"),
    [
        ("RGB", "RGB"),
        ("YBR_FULL", "YBR_FULL"),
        ("YBR_FULL_422", "YBR_FULL"),
        ("YBR_PARTIAL_420", "YBR_PARTIAL_420"),
        ("YBR_PARTIAL_422", "YBR_PARTIAL_422"),
        ("YBR_RCT", "RGB"),
    ],
)
@pytest.mark.parametrize("uid", [uids.JPEG_2000, uids.HTJ2K_LOSSLESS, uids.HTJ2K])
def test_colour_without_a_component_transform(uid: str, photometric: str, expected: str) -> None:
    spec = make_spec(16, 24, allocated=8, samples=3, photometric_interpretation=photometric)
    samples = make_frame(spec, "noise")
    if uid == uids.JPEG_2000:
        stream = imagecodecs.jpeg2k_encode(
            samples, level=0, codecformat="j2k", reversible=True, mct=False, planar=False
        )
    else:
        stream = imagecodecs.htj2k_encode(samples, reversible=True, rgb=False, planar=False)
    decoded = decode_received(bytes(stream), uid, spec)
    np.testing.assert_array_equal(decoded.samples, samples)
    assert decoded.photometric_interpretation == expected
    assert len(pack(decoded.samples, decoded.spec)) == samples.nbytes


@pytest.mark.parametrize("count", [2, 4])
def test_other_numbers_of_components(count: int) -> None:
    spec = make_spec(16, 24, allocated=16, samples=count)
    samples = make_frame(spec, "noise")
    jpeg2000 = imagecodecs.jpeg2k_encode(samples, level=0, codecformat="j2k", reversible=True, mct=False, planar=False)
    htj2k = imagecodecs.htj2k_encode(samples, reversible=True, rgb=False, planar=False)
    for stream, uid in ((jpeg2000, uids.JPEG_2000_LOSSLESS), (htj2k, uids.HTJ2K_LOSSLESS), (htj2k, uids.HTJ2K)):
        np.testing.assert_array_equal(decode_received(bytes(stream), uid, spec).samples, samples)


def test_deep_lossy_htj2k_is_refused() -> None:
    spec = make_spec(64, 64, allocated=32, stored=32)
    stream = bytes(imagecodecs.htj2k_encode(make_frame(spec, "ends"), reversible=False, level=0.01))
    with pytest.raises(UnsupportedFrame, match="lossy with 32 bits"):
        decode_received(stream, uids.HTJ2K, spec)


def test_extensions_of_part_2_are_refused() -> None:
    spec = make_spec(16, 24, allocated=8, samples=3)
    plain = bytes(imagecodecs.jpeg2k_encode(make_frame(spec, "noise"), level=0, codecformat="j2k", reversible=True))
    assert extension_markers("jpeg2000", plain) == []
    end_of_siz = 4 + int.from_bytes(plain[4:6])
    transform = b"\xff\x74\0\x08\0\0\0\0\0\0"
    extended = plain[:end_of_siz] + transform + plain[end_of_siz:]
    for uid in (uids.JPEG_2000_MC_LOSSLESS, uids.JPEG_2000_MC, uids.JPEG_2000):
        with pytest.raises(UnsupportedFrame, match="FF74"):
            decode_received(extended, uid, spec)
    assert extension_markers("jpeg2000", extended[: end_of_siz + 6]) == ["FF74"]


# ---------------------------------------------------------------------------------------------------- JPEG XL


@pytest.mark.parametrize("stored", [8, 12, 16])
def test_signed_lossy_jpegxl_is_offset_binary(stored: int) -> None:
    spec = make_spec(64, 64, allocated=16, stored=stored, pixel_representation=1)
    row, column = np.indices((64, 64))
    samples = (np.sin(row / 9 + column / 7) * (1 << stored - 2)).astype(np.int16)
    moved = (samples.astype(np.int32) + (1 << stored - 1)).astype(np.uint16 if stored > 8 else np.uint8)
    lossy = imagecodecs.jpegxl_encode(moved, distance=0.1, lossless=False, bitspersample=stored)
    decoded = decode_received(bytes(lossy), uids.JPEG_XL, spec)
    assert decoded.samples.dtype == np.int16
    assert np.abs(decoded.samples.astype(int) - samples).max() <= (1 << stored) // 100
    exact = imagecodecs.jpegxl_encode(
        samples.astype(np.uint16 if stored > 8 else np.uint8) & ((1 << stored) - 1), lossless=True, bitspersample=stored
    )
    for uid in (uids.JPEG_XL, uids.JPEG_XL_LOSSLESS):
        np.testing.assert_array_equal(decode_received(bytes(exact), uid, spec).samples, samples)


def test_more_bits_than_libjxl_gives_are_refused() -> None:
    # 8 rows, 8 columns, 24 bits
    bits = 0x0AFF | 1 << 16 | 0 << 17 | 1 << 22 | 3 << 28 | 23 << 30
    with pytest.raises(UnsupportedFrame, match="24 bits"):
        decode_received(
            bits.to_bytes(8, "little") + bytes(40), uids.JPEG_XL_LOSSLESS, make_spec(8, 8, allocated=32, samples=3)
        )


@pytest.mark.parametrize("photometric", ["YBR_RCT", "XYB"])
def test_transforms_that_jpegxl_undoes(photometric: str) -> None:
    spec = make_spec(16, 24, allocated=8, samples=3, photometric_interpretation=photometric)
    samples = make_frame(spec, "noise")
    stream = imagecodecs.jpegxl_encode(samples, lossless=True)
    decoded = decode_received(bytes(stream), uids.JPEG_XL_LOSSLESS, spec)
    np.testing.assert_array_equal(decoded.samples, samples)
    assert decoded.photometric_interpretation == "RGB"


# ---------------------------------------------------------------------------------------------------- bytes


def test_chroma_that_two_pixels_share() -> None:
    spec = make_spec(2, 4, allocated=8, samples=3, photometric_interpretation="YBR_FULL_422")
    frame = bytes([1, 2, 50, 60, 3, 4, 51, 61, 5, 6, 52, 62, 7, 8, 53, 63])
    expected = [
        [[1, 50, 60], [2, 50, 60], [3, 51, 61], [4, 51, 61]],
        [[5, 52, 62], [6, 52, 62], [7, 53, 63], [8, 53, 63]],
    ]
    deflate = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    deflated = deflate.compress(frame) + deflate.flush()
    for stream, uid in ((frame, uids.ENCAPSULATED_UNCOMPRESSED), (deflated, uids.DEFLATED_FRAME)):
        decoded = decode_received(stream, uid, spec)
        assert decoded.samples.tolist() == expected
        assert decoded.photometric_interpretation == "YBR_FULL"
        assert len(pack(decoded.samples, decoded.spec)) == 24
    with pytest.raises(DecodeError):
        decode_received(frame[:-2], uids.ENCAPSULATED_UNCOMPRESSED, spec)


def test_shared_chroma_of_sixteen_bits_and_big_endian() -> None:
    spec = make_spec(1, 2, allocated=16, samples=3, photometric_interpretation="YBR_FULL_422")
    frame = np.array([300, 301, 400, 500], ">u2").tobytes()
    assert unpack_subsampled(frame, spec, big_endian=True).tolist() == [[[300, 400, 500], [301, 400, 500]]]
    with pytest.raises(UnsupportedFrame, match="columns"):
        unpack_subsampled(frame[:-2], replace(spec, columns=3))


def test_planes_in_what_holds_bytes() -> None:
    spec = make_spec(2, 3, allocated=8, samples=3, planar_configuration=1)
    decoded = decode_received(bytes(range(18)), uids.ENCAPSULATED_UNCOMPRESSED, spec)
    assert decoded.samples[0, 0].tolist() == [0, 6, 12]
    assert decoded.spec.planar_configuration == 0


# ---------------------------------------------------------------------------------------------------- RLE


def test_a_frame_too_large_for_its_code_stream_is_refused_before_anything_is_allocated() -> None:
    with pytest.raises(DecodeError, match="cannot hold"):
        decode_received(bytes(64), uids.RLE, make_spec(65535, 65535))
