"""What is written in each transfer syntax: exact or refused, and described as the standard says."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import imagecodecs
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from contract.codec_suite import KINDS, frames, make_frame, make_spec
from leanpacs.codecs.headers import jpeg2000_header, jpeg_header
from leanpacs.codecs.jxlheader import jpegxl_header
from leanpacs.codecs.registry import decode_received
from leanpacs.codecs.second import second_decoders
from leanpacs.codecs.writing import Lossy, WriteOptions, is_lossy, writable, write_frame, write_refusal
from leanpacs.dicom import uids
from leanpacs.dicom.frames import FrameSpec
from leanpacs.errors import UnsupportedFrame

LOSSLESS = WriteOptions()
ALWAYS_LOSSY = {uids.JPEG_BASELINE, uids.JPEG_EXTENDED}
EXACT = [uid for uid in writable() if uid not in ALWAYS_LOSSY]
OF_BYTES = {uids.DEFLATED_FRAME, uids.ENCAPSULATED_UNCOMPRESSED}
IMAGES = [uid for uid in EXACT if uid not in OF_BYTES | {uids.RLE}]
LOSSY = {
    uids.JPEG_BASELINE: [Lossy(quality=quality) for quality in (10, 50, 90)],
    uids.JPEG_EXTENDED: [Lossy(quality=quality) for quality in (10, 50, 90)],
    uids.JPEG_LS_NEAR_LOSSLESS: [Lossy(near=near) for near in (12, 4, 1)],
    uids.JPEG_2000: [Lossy(ratio=ratio) for ratio in (40, 12, 4)],
    uids.HTJ2K: [Lossy(ratio=ratio) for ratio in (40, 12, 4)],
    uids.JPEG_XL: [Lossy(distance=distance) for distance in (8, 2, 0.3)],
}


def require_exact(samples: NDArray[Any], spec: FrameSpec, uid: str) -> bytes:
    before = samples.copy()
    written = write_frame(samples, spec, uid, LOSSLESS)
    decoded = decode_received(written.stream, uid, written.spec)
    assert decoded.samples.dtype == samples.dtype
    np.testing.assert_array_equal(decoded.samples, samples)
    np.testing.assert_array_equal(samples, before)
    assert decoded.spec.photometric_interpretation == spec.photometric_interpretation
    # What says how values are to be read is never changed where nothing is lost.
    kept = replace(
        written.spec,
        photometric_interpretation=spec.photometric_interpretation,
        planar_configuration=spec.planar_configuration,
    )
    assert kept == spec
    assert written.spec.planar_configuration == 0
    return written.stream


def slope(spec: FrameSpec) -> NDArray[Any]:
    """Nearly from end to end of the range, with a little noise."""
    span = (1 << spec.bits_stored) - 1
    plane = np.add.outer(np.arange(spec.rows), np.arange(spec.columns)) / (spec.rows + spec.columns - 2)
    noise = np.random.default_rng(1).normal(0, 0.004, plane.shape)
    values = np.rint(np.clip(plane + noise, 0.05, 0.95) * span)
    if spec.samples_per_pixel == 3:
        values = np.stack([values, values[::-1], values[:, ::-1]], -1)
    least = 1 << spec.bits_stored - 1 if spec.pixel_representation else 0
    return (values - least).astype(f"{'i' if spec.pixel_representation else 'u'}{spec.bits_allocated // 8}")


# ---------------------------------------------------------------------------------------- exact


@pytest.mark.parametrize("uid", EXACT)
def test_frames_come_back_exactly(uid: str) -> None:
    @settings(max_examples=60)
    @given(frames())
    def comes_back(frame: tuple[FrameSpec, NDArray[Any]]) -> None:
        require_exact(frame[1], frame[0], uid)

    comes_back()


@pytest.mark.parametrize("signed", [0, 1])
@pytest.mark.parametrize("uid", EXACT)
def test_each_number_of_bits(uid: str, signed: int) -> None:
    for stored in range(1, 17):
        for allocated in (8, 16) if stored <= 8 else (16,):
            for kind in KINDS:
                spec = make_spec(13, 11, allocated=allocated, stored=stored, pixel_representation=signed)
                require_exact(make_frame(spec, kind), spec, uid)


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (300, 1), (2, 3)])
@pytest.mark.parametrize("uid", EXACT)
def test_narrow_frames(uid: str, shape: tuple[int, int]) -> None:
    for samples in (1, 3):
        for stored in (2, 8, 12, 16):
            spec = make_spec(*shape, allocated=8 if stored <= 8 else 16, stored=stored, samples=samples)
            for kind in KINDS:
                require_exact(make_frame(spec, kind), spec, uid)


@pytest.mark.parametrize("signed", [0, 1])
@pytest.mark.parametrize("uid", EXACT)
def test_bits_above_bits_stored_come_back(uid: str, signed: int) -> None:
    spec = make_spec(13, 11, stored=12, pixel_representation=signed)
    words = make_frame(make_spec(13, 11), "noise")
    require_exact(words.view(np.int16) if signed else words, spec, uid)


@pytest.mark.parametrize("uid", EXACT)
def test_a_high_bit_that_is_elsewhere(uid: str) -> None:
    spec = replace(make_spec(13, 11, stored=12), high_bit=15)
    require_exact(make_frame(make_spec(13, 11, stored=12), "smooth") << 4, spec, uid)
    low = make_frame(make_spec(13, 11, stored=11), "smooth")  # fits 12 bits, and is not to be taken for them
    require_exact(low, spec, uid)


@pytest.mark.parametrize("uid", EXACT)
def test_palette_indexes(uid: str) -> None:
    for allocated in (8, 16):
        spec = make_spec(13, 11, allocated=allocated, photometric_interpretation="PALETTE COLOR")
        require_exact(make_frame(spec, "noise"), spec, uid)


@pytest.mark.parametrize("photometric", ["RGB", "YBR_FULL", "", "HSV"])
@pytest.mark.parametrize("uid", EXACT)
def test_colours_that_are_planar_or_have_other_names(uid: str, photometric: str) -> None:
    spec = make_spec(13, 11, allocated=8, samples=3, photometric_interpretation=photometric, planar_configuration=1)
    require_exact(make_frame(spec, "noise"), spec, uid)


@pytest.mark.parametrize("uid", EXACT)
def test_chroma_that_is_whole_in_spite_of_its_name(uid: str) -> None:
    spec = make_spec(4, 6, allocated=8, samples=3, photometric_interpretation="YBR_FULL_422", full_chroma=True)
    samples = make_frame(spec, "noise")
    written = write_frame(samples, spec, uid, LOSSLESS)
    assert written.spec.photometric_interpretation == "YBR_FULL"
    np.testing.assert_array_equal(decode_received(written.stream, uid, written.spec).samples, samples)


@pytest.mark.parametrize("uid", sorted(OF_BYTES))
def test_bytes_hold_everything(uid: str) -> None:
    one_bit = make_spec(13, 11, allocated=1)
    samples = make_frame(make_spec(13, 11, allocated=8, stored=1), "noise")
    assert len(require_exact(samples, one_bit, uid)) <= -(-143 // 8) + (8 if uid == uids.DEFLATED_FRAME else 0)
    wide = make_spec(5, 7, allocated=32)
    require_exact(np.arange(35, dtype=np.uint32).reshape(5, 7) << 20, wide, uid)
    real = make_spec(5, 7, allocated=64, kind="float")
    require_exact(np.linspace(-1, 1, 35).reshape(5, 7), real, uid)


def test_rle_of_32_bits() -> None:
    spec = make_spec(5, 7, allocated=32, pixel_representation=1)
    require_exact(np.arange(-17, 18, dtype=np.int32).reshape(5, 7) << 20, spec, uids.RLE)


@pytest.mark.parametrize("effort", [1, 9])
@pytest.mark.parametrize("uid", [uids.DEFLATED_FRAME, uids.JPEG_XL_LOSSLESS, uids.JPEG_XL])
def test_effort(uid: str, effort: int) -> None:
    spec = make_spec(64, 64, stored=12)
    samples = slope(spec)
    written = write_frame(samples, spec, uid, WriteOptions(effort=effort))
    np.testing.assert_array_equal(decode_received(written.stream, uid, written.spec).samples, samples)
    if effort == 9:
        assert len(written.stream) <= len(write_frame(samples, spec, uid, WriteOptions(effort=1)).stream)


# ---------------------------------------------------------------------------------------- code streams


@pytest.mark.parametrize(("allocated", "stored"), [(8, 8), (16, 9), (16, 10), (16, 12), (16, 16)])
@pytest.mark.parametrize("uid", IMAGES)
def test_code_streams_have_bits_stored(uid: str, allocated: int, stored: int) -> None:
    for signed in (0, 1):
        spec = make_spec(30, 40, allocated=allocated, stored=stored, pixel_representation=signed)
        stream = write_frame(slope(spec), spec, uid, LOSSLESS).stream
        assert declared_bits(stream) == stored


@pytest.mark.parametrize("uid", [uids.JPEG_2000_LOSSLESS, uids.HTJ2K_LOSSLESS_RPCL, uids.JPEG_XL_LOSSLESS])
def test_code_streams_of_few_bits(uid: str) -> None:
    spec = make_spec(30, 40, allocated=8, stored=3)
    assert declared_bits(write_frame(slope(spec), spec, uid, LOSSLESS).stream) == 3


def test_jpeg_has_the_bits_that_others_read() -> None:
    for uid in (uids.JPEG_LOSSLESS_SV1, uids.JPEG_LS_LOSSLESS):
        for allocated, expected in ((8, 8), (16, 9)):
            spec = make_spec(30, 40, allocated=allocated, stored=5)
            assert declared_bits(write_frame(slope(spec), spec, uid, LOSSLESS).stream) == expected


def declared_bits(stream: bytes) -> int:
    if stream.startswith(b"\xff\x4f"):
        return jpeg2000_header("", stream).shape.precision
    if stream.startswith(b"\xff\xd8"):
        return jpeg_header("", stream).shape.precision
    return jpegxl_header("", stream).shape.precision


@pytest.mark.parametrize("signed", [0, 1])
@pytest.mark.parametrize("uid", [uids.JPEG_2000_LOSSLESS, uids.HTJ2K_LOSSLESS, uids.HTJ2K_LOSSLESS_RPCL])
def test_jpeg2000_has_the_sign_of_pixel_representation(uid: str, signed: int) -> None:
    spec = make_spec(30, 40, stored=12, pixel_representation=signed)
    stream = write_frame(slope(spec), spec, uid, LOSSLESS).stream
    assert jpeg2000_header("", stream).is_signed == bool(signed)


def test_jpeg_lossless_is_of_selection_value_1() -> None:
    spec = make_spec(30, 40, stored=12)
    stream = write_frame(slope(spec), spec, uids.JPEG_LOSSLESS_SV1, LOSSLESS).stream
    assert jpeg_header("", stream).process == 0xC3
    scan = stream.index(b"\xff\xda")
    assert stream[scan + 4 : scan + 10] == bytes([1, 1, 0, 1, 0, 0])


def segments(stream: bytes) -> dict[int, bytes]:
    """Segments of a JPEG 2000 main header by the second byte of their markers."""
    found, position = {}, 2
    while stream[position : position + 2] != b"\xff\x90":
        length = int.from_bytes(stream[position + 2 : position + 4])
        found[stream[position + 1]] = stream[position + 4 : position + 2 + length]
        position += 2 + length
    return found | {0x90: stream[position:]}


@pytest.mark.parametrize("shape", [(1, 1), (64, 64), (300, 400), (2100, 150)])
def test_the_rpcl_syntax_is_made_for_progressive_display(shape: tuple[int, int]) -> None:
    """PS3.5 10.18: progression by resolution, thumbnails of at most 64, lengths of the tile-parts."""
    for samples in (1, 3):
        spec = make_spec(*shape, stored=12, samples=samples)
        stream = write_frame(make_frame(spec, "smooth"), spec, uids.HTJ2K_LOSSLESS_RPCL, LOSSLESS).stream
        header = segments(stream)
        coding = header[0x52]
        assert coding[1] == 2  # RPCL
        levels = coding[5]
        assert max(shape) <= 64 << levels
        lengths, part = header[0x55], header[0x90]
        assert lengths[1] == 0x60  # indexes of 16 bits, lengths of 32
        told = [int.from_bytes(lengths[at : at + 4]) for at in range(4, len(lengths), 6)]
        for index, length in enumerate(told):
            assert part[:4] == b"\xff\x90\x00\x0a"
            assert int.from_bytes(part[6:10]) == length
            assert part[10] == index
            part = part[length:]
        assert part == b"\xff\xd9"
        assert len(told) == levels + 1


@pytest.mark.parametrize(
    ("uid", "photometric", "expected"),
    [
        (uids.JPEG_2000_LOSSLESS, "RGB", "YBR_RCT"),
        (uids.JPEG_2000_LOSSLESS, "YBR_FULL", "YBR_FULL"),
        (uids.HTJ2K_LOSSLESS, "RGB", "YBR_RCT"),
        (uids.HTJ2K_LOSSLESS_RPCL, "RGB", "YBR_RCT"),
        (uids.JPEG_XL_LOSSLESS, "RGB", "RGB"),
        (uids.JPEG_LS_LOSSLESS, "RGB", "RGB"),
        (uids.JPEG_LOSSLESS_SV1, "RGB", "RGB"),
        (uids.JPEG_LOSSLESS_SV1, "YBR_FULL", "YBR_FULL"),
        (uids.RLE, "RGB", "RGB"),
    ],
)
def test_photometric_interpretation(uid: str, photometric: str, expected: str) -> None:
    spec = make_spec(13, 11, allocated=8, samples=3, photometric_interpretation=photometric)
    assert write_frame(make_frame(spec, "noise"), spec, uid, LOSSLESS).spec.photometric_interpretation == expected


@pytest.mark.parametrize("uid", [uids.JPEG_2000_LOSSLESS, uids.HTJ2K_LOSSLESS, uids.JPEG_2000, uids.HTJ2K])
def test_the_component_transform_is_used_for_rgb_alone(uid: str) -> None:
    lossy = WriteOptions(lossy=Lossy(ratio=3)) if uid in LOSSY else LOSSLESS
    for photometric in ("RGB", "YBR_FULL", "HSV"):
        spec = make_spec(13, 11, allocated=8, samples=3, photometric_interpretation=photometric)
        written = write_frame(make_frame(spec, "smooth"), spec, uid, lossy)
        assert bool(segments(written.stream)[0x52][4]) == (photometric == "RGB")
        is_named = written.spec.photometric_interpretation in {"YBR_RCT", "YBR_ICT"}
        assert is_named == (photometric == "RGB")


# ---------------------------------------------------------------------------------------- lossy

LOSSY_SPECS = [
    make_spec(96, 128, allocated=8),
    make_spec(96, 128, allocated=8, samples=3),
    make_spec(96, 128, stored=12),
    make_spec(96, 128, stored=10),
    make_spec(96, 128, stored=12, pixel_representation=1),
    make_spec(96, 128, pixel_representation=1),
    make_spec(96, 128, stored=12, samples=3),
    make_spec(96, 128, stored=7),
]


@pytest.mark.parametrize("uid", LOSSY)
def test_more_quality_is_nearer(uid: str) -> None:
    tried = 0
    for spec in LOSSY_SPECS:
        samples = slope(spec)
        sizes, errors = [], []
        for lossy in LOSSY[uid]:
            options = WriteOptions(lossy=lossy)
            if write_refusal(spec, uid, options) is not None:
                continue
            written = write_frame(samples, spec, uid, options)
            decoded = decode_received(written.stream, uid, written.spec).samples
            sizes.append(len(written.stream))
            errors.append(float(np.square(decoded.astype(float) - samples).mean()))
            assert int(decoded.max()) < 1 << written.spec.bits_stored
        tried += bool(sizes)
        assert sizes == sorted(sizes), spec
        assert errors == sorted(errors, reverse=True), spec
        assert not errors or errors[-1] <= (0.02 * (1 << spec.bits_stored)) ** 2
    assert tried >= 2


@settings(max_examples=60)
@given(st.integers(2, 16), st.integers(0, 1), st.integers(1, 255), st.sampled_from(KINDS), st.integers(1, 40))
def test_near_lossless_is_within_its_bound(stored: int, signed: int, near: int, kind: str, side: int) -> None:
    allocated = 8 if stored <= 8 else 16
    spec = make_spec(side, 13, allocated=allocated, stored=stored, pixel_representation=signed)
    near = min(near, ((1 << stored) - 1) // 2)
    samples = make_frame(spec, kind)
    if signed:  # far from the ends, where an error would change the sign
        samples, near = samples >> 1, min(near, 1 << stored - 2)
    written = write_frame(samples, spec, uids.JPEG_LS_NEAR_LOSSLESS, WriteOptions(lossy=Lossy(near=near)))
    decoded = decode_received(written.stream, uids.JPEG_LS_NEAR_LOSSLESS, written.spec).samples
    assert np.abs(decoded.astype(int) - samples).max() <= near


def test_near_lossless_changes_no_sign() -> None:
    spec, options = make_spec(1, 4, stored=12, pixel_representation=1), WriteOptions(lossy=Lossy(near=3))
    for safe in ([-2045, 0, -1, 2044], [0, 1, 2, 3]):
        write_frame(np.array([safe], np.int16), spec, uids.JPEG_LS_NEAR_LOSSLESS, options)
    for unsafe in ([-2046, 0, 0, 0], [0, 0, 0, 2045]):
        with pytest.raises(UnsupportedFrame, match="sign"):
            write_frame(np.array([unsafe], np.int16), spec, uids.JPEG_LS_NEAR_LOSSLESS, options)


@pytest.mark.parametrize("ratio", [3, 10, 30])
@pytest.mark.parametrize("uid", [uids.JPEG_2000, uids.HTJ2K])
def test_ratios_are_kept(uid: str, ratio: float) -> None:
    for spec in (make_spec(200, 256, stored=12), make_spec(200, 256, allocated=8, samples=3)):
        written = write_frame(make_frame(spec, "noise"), spec, uid, WriteOptions(lossy=Lossy(ratio=ratio)))
        wanted = spec.rows * spec.columns * spec.samples_per_pixel * spec.bits_stored / 8 / ratio
        assert 0.85 * wanted <= len(written.stream) <= wanted


@pytest.mark.parametrize("uid", [uids.JPEG_2000, uids.HTJ2K])
def test_frames_too_small_for_a_ratio_are_written_all_the_same(uid: str) -> None:
    spec = make_spec(1, 1, allocated=8)
    written = write_frame(make_frame(spec, "noise"), spec, uid, WriteOptions(lossy=Lossy(ratio=20)))
    assert decode_received(written.stream, uid, written.spec).samples.shape == (1, 1)


@pytest.mark.parametrize(
    ("uid", "spec", "expected"),
    [
        (uids.JPEG_BASELINE, make_spec(9, 9, stored=7), ("MONOCHROME2", 8, 8, 7)),
        (uids.JPEG_BASELINE, make_spec(9, 9, allocated=8, samples=3), ("YBR_FULL_422", 8, 8, 7)),
        (uids.JPEG_EXTENDED, make_spec(9, 9, stored=10), ("MONOCHROME2", 16, 12, 11)),
        (uids.JPEG_LS_NEAR_LOSSLESS, make_spec(9, 9, stored=7), ("MONOCHROME2", 8, 8, 7)),
        (uids.JPEG_LS_NEAR_LOSSLESS, make_spec(9, 9, stored=12, samples=3), ("RGB", 16, 12, 11)),
        (uids.JPEG_2000, make_spec(9, 9, stored=12, samples=3), ("YBR_ICT", 16, 12, 11)),
        (uids.HTJ2K, make_spec(9, 9, stored=12, samples=3), ("YBR_ICT", 16, 12, 11)),
        (uids.JPEG_XL, make_spec(9, 9, stored=12, samples=3), ("XYB", 16, 12, 11)),
        (uids.JPEG_XL, make_spec(9, 9, stored=12), ("MONOCHROME2", 16, 12, 11)),
    ],
)
def test_how_lossy_frames_are_described(uid: str, spec: FrameSpec, expected: tuple[Any, ...]) -> None:
    written = write_frame(make_frame(spec, "smooth"), spec, uid, WriteOptions(lossy=LOSSY[uid][1])).spec
    said = (written.photometric_interpretation, written.bits_allocated, written.bits_stored, written.high_bit)
    assert said == expected


def test_jpeg_colour_is_subsampled_as_its_name_says() -> None:
    spec = make_spec(16, 16, allocated=8, samples=3)
    stream = write_frame(slope(spec), spec, uids.JPEG_BASELINE, WriteOptions(lossy=Lossy(quality=90))).stream
    header = stream[stream.index(b"\xff\xc0") :]
    assert [header[at] for at in (11, 14, 17)] == [0x21, 0x11, 0x11]


def test_jpeg_xl_is_told_the_bits() -> None:
    """Else quality would be measured against 16 bits, and 12-bit values would hardly be looked at."""
    spec = make_spec(96, 128, stored=12)
    samples = slope(spec)
    written = write_frame(samples, spec, uids.JPEG_XL, WriteOptions(lossy=Lossy(quality=90)))
    untold = imagecodecs.jpegxl_encode(samples, level=90, lossless=False, effort=5, numthreads=1)
    assert declared_bits(written.stream) == 12
    assert len(written.stream) > len(untold)


@pytest.mark.parametrize("uid", LOSSY)
def test_values_beyond_bits_stored_are_not_clipped_in_silence(uid: str) -> None:
    stored = 7 if uid == uids.JPEG_BASELINE else 10
    spec = make_spec(9, 9, stored=stored)
    samples = make_frame(make_spec(9, 9, stored=stored + 1), "ends")
    with pytest.raises(UnsupportedFrame, match="beyond"):
        write_frame(samples, spec, uid, WriteOptions(lossy=LOSSY[uid][1]))


# ---------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("spec", "refusing"),
    [
        (make_spec(4, 4, allocated=1), {*IMAGES, uids.RLE}),
        (make_spec(4, 4, allocated=32), set(IMAGES)),
        (make_spec(4, 4, allocated=64), {*IMAGES, uids.RLE}),
        (make_spec(4, 4, allocated=32, kind="float"), {*IMAGES, uids.RLE}),
        (make_spec(4, 4, allocated=8, samples=4), set(IMAGES)),
        (make_spec(4, 4, allocated=8, samples=3, photometric_interpretation="YBR_FULL_422"), set(EXACT)),
        (make_spec(70000, 1, allocated=8), {uids.JPEG_LOSSLESS_SV1, uids.JPEG_LS_LOSSLESS, uids.JPEG_LS_NEAR_LOSSLESS}),
        (make_spec(4, 4, stored=12, pixel_representation=1), set()),
    ],
    ids=["1 bit", "32 bits", "64 bits", "float", "4 samples", "4:2:2", "long", "signed"],
)
def test_what_lossless_syntaxes_refuse(spec: FrameSpec, refusing: set[str]) -> None:
    reasons = {uid: write_refusal(spec, uid, LOSSLESS) for uid in EXACT}
    assert {uid for uid, reason in reasons.items() if reason} == refusing


@pytest.mark.parametrize(
    ("spec", "holding"),
    [
        (make_spec(4, 4, allocated=8), {*LOSSY} - {uids.JPEG_EXTENDED}),
        (make_spec(4, 4, allocated=8, samples=3), {*LOSSY} - {uids.JPEG_EXTENDED}),
        (make_spec(4, 4, stored=12), {*LOSSY} - {uids.JPEG_BASELINE}),
        (make_spec(4, 4), {*LOSSY} - ALWAYS_LOSSY),
        (make_spec(4, 4, pixel_representation=1), {uids.JPEG_LS_NEAR_LOSSLESS, uids.JPEG_2000, uids.HTJ2K}),
        (make_spec(4, 4, stored=12, samples=3), {*LOSSY} - ALWAYS_LOSSY),
        (make_spec(4, 4, allocated=8, photometric_interpretation="PALETTE COLOR"), set()),
        (make_spec(4, 4, allocated=8, stored=1), set()),
        (replace(make_spec(4, 4, stored=12), high_bit=15), set()),
        (make_spec(4, 4, allocated=1), set()),
        (make_spec(4, 4, allocated=32), set()),
    ],
    ids=[
        "8 bits",
        "colour",
        "12 bits",
        "16 bits",
        "signed",
        "deep colour",
        "palette",
        "1 bit stored",
        "high bit",
        "1 bit",
        "32 bits",
    ],
)
def test_what_lossy_syntaxes_hold(spec: FrameSpec, holding: set[str]) -> None:
    reasons = {uid: write_refusal(spec, uid, WriteOptions(lossy=lossy[2])) for uid, lossy in LOSSY.items()}
    assert {uid for uid, reason in reasons.items() if reason is None} == holding


def test_an_error_that_is_too_large_for_the_bits() -> None:
    options = WriteOptions(lossy=Lossy(near=9))
    assert write_refusal(make_spec(4, 4, allocated=8, stored=4), uids.JPEG_LS_NEAR_LOSSLESS, options)
    assert write_refusal(make_spec(4, 4, allocated=8, stored=5), uids.JPEG_LS_NEAR_LOSSLESS, options) is None


def test_options_and_syntaxes_that_do_not_go_together() -> None:
    spec = make_spec(4, 4, allocated=8)
    near = WriteOptions(lossy=Lossy(near=1))
    assert "lossless" in str(write_refusal(spec, uids.JPEG_LS_LOSSLESS, near))
    assert "only ratio" in str(write_refusal(spec, uids.JPEG_2000, near))
    assert "must be said" in str(write_refusal(spec, uids.JPEG_BASELINE, LOSSLESS))
    assert "not written" in str(write_refusal(spec, uids.JPEG_LOSSLESS, LOSSLESS))
    assert "not written" in str(write_refusal(spec, uids.EXPLICIT_LE, LOSSLESS))


def test_is_lossy() -> None:
    assert not any(is_lossy(uid, LOSSLESS) for uid in EXACT)
    assert all(is_lossy(uid, LOSSLESS) for uid in ALWAYS_LOSSY)
    assert all(is_lossy(uid, WriteOptions(lossy=lossy[0])) for uid, lossy in LOSSY.items())


@pytest.mark.parametrize("uid", EXACT)
def test_samples_that_are_not_what_the_frame_says(uid: str) -> None:
    spec = make_spec(4, 4, stored=12)
    for samples in (np.zeros((4, 5), np.uint16), np.zeros((4, 4), np.int16), np.zeros((4, 4), np.uint8)):
        with pytest.raises(UnsupportedFrame):
            write_frame(samples, spec, uid, LOSSLESS)


@pytest.mark.parametrize("uid", EXACT)
def test_samples_that_are_not_contiguous(uid: str) -> None:
    spec = make_spec(13, 11, allocated=8, samples=3)
    require_exact(np.moveaxis(np.moveaxis(make_frame(spec, "noise"), -1, 0).copy(), 0, -1), spec, uid)


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"quality": 50, "near": 1},
        {"quality": 0},
        {"quality": 101},
        {"near": 0},
        {"near": 256},
        {"ratio": 1},
        {"distance": 0},
        {"distance": 26},
        {"quality": float("nan")},
        {"ratio": float("nan")},
        {"distance": float("nan")},
    ],
)
def test_amounts_that_there_are_not(values: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"exactly one|is not"):
        Lossy(**values)


def test_efforts_that_there_are_not() -> None:
    for effort in (0, 10):
        with pytest.raises(ValueError, match="effort"):
            WriteOptions(effort=effort)


# ---------------------------------------------------------------------------------------- second decoders


@pytest.mark.parametrize("uid", EXACT)
def test_second_decoders_agree(uid: str) -> None:
    """Signs, planes and colours as another library reads them together with the attributes beside the code stream."""
    for signed, samples, photometric in (
        (0, 1, "MONOCHROME2"),
        (1, 1, "MONOCHROME2"),
        (0, 3, "RGB"),
        (0, 3, "YBR_FULL"),
    ):
        for allocated, stored in ((8, 8), (16, 12), (16, 16)):
            spec = make_spec(
                21,
                34,
                allocated=allocated,
                stored=stored,
                samples=samples,
                pixel_representation=signed,
                photometric_interpretation=photometric,
            )
            frame = make_frame(spec, "noise")
            written = write_frame(frame, spec, uid, LOSSLESS)
            for decoder in second_decoders(uid):
                decoded = decoder.decode(written.stream, uid, written.spec)
                np.testing.assert_array_equal(decoded.samples, frame, err_msg=f"{decoder.name} {spec}")
                assert decoded.photometric_interpretation == photometric
