"""Native bytes to samples and back."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.codec_suite import make_spec
from leanpacs.codecs.native import pack, pack_bits, unpack
from leanpacs.dicom.frames import FrameSpec
from leanpacs.errors import UnsupportedFrame


@st.composite
def specs(draw: st.DrawFn) -> FrameSpec:
    """Frames that samples can be made of."""
    allocated = draw(st.sampled_from([1, 8, 16, 32, 64]))
    is_float = allocated >= 32 and draw(st.booleans())
    return make_spec(
        draw(st.integers(1, 9)),
        draw(st.integers(1, 9)),
        allocated=allocated,
        samples=1 if allocated == 1 else draw(st.sampled_from([1, 2, 3, 4])),
        pixel_representation=draw(st.sampled_from([0, 1])),
        planar_configuration=draw(st.sampled_from([0, 1])),
        kind="float" if is_float else "integer",
    )


@given(specs(), st.booleans(), st.randoms(use_true_random=False))
def test_bytes_come_back(spec: FrameSpec, big_endian: bool, random: object) -> None:
    length = -(-spec.frame_bits // 8)
    frame = bytearray(random.randbytes(length))  # type: ignore[attr-defined]
    if spec.frame_bits % 8:
        frame[-1] &= (1 << spec.frame_bits % 8) - 1
    samples = unpack(bytes(frame), spec, big_endian=big_endian)
    assert samples.dtype.isnative
    assert pack(samples, spec, big_endian=big_endian) == frame


def test_values_and_order_of_bytes() -> None:
    spec = make_spec(1, 2, pixel_representation=1)
    np.testing.assert_array_equal(unpack(b"\x01\x00\xff\xff", spec), [[1, -1]])
    np.testing.assert_array_equal(unpack(b"\x00\x01\xff\xfe", spec, big_endian=True), [[1, -2]])


def test_planes_are_interleaved() -> None:
    spec = make_spec(1, 2, allocated=8, samples=3, planar_configuration=1)
    np.testing.assert_array_equal(unpack(bytes([1, 2, 3, 4, 5, 6]), spec), [[[1, 3, 5], [2, 4, 6]]])


def test_samples_are_a_view_where_they_can_be() -> None:
    frame = bytes(range(24))
    assert np.shares_memory(unpack(frame, make_spec(3, 4)), np.frombuffer(frame, np.uint8))


def test_lowest_bit_is_the_first_pixel() -> None:
    spec = make_spec(2, 5, allocated=1)
    np.testing.assert_array_equal(unpack(b"\x21\x03", spec), [[1, 0, 0, 0, 0], [1, 0, 0, 1, 1]])


@given(st.integers(1, 5), st.integers(1, 7), st.integers(1, 6))
def test_bits_of_several_frames_are_joined(rows: int, columns: int, count: int) -> None:
    frames = np.random.default_rng(rows).integers(0, 2, (count, rows, columns)).astype(np.uint8)
    joined = b"".join(pack_bits(iter(frames)))
    assert joined == np.packbits(frames.ravel(), bitorder="little").tobytes()


@pytest.mark.parametrize("length", [0, 23, 25, 48])
def test_another_length_is_refused(length: int) -> None:
    with pytest.raises(UnsupportedFrame, match=f"{length} bytes are no frame of 24"):
        unpack(bytes(length), make_spec(3, 4))


@pytest.mark.parametrize(
    "spec",
    [
        make_spec(2, 2, allocated=8, samples=3, photometric_interpretation="YBR_FULL_422"),
        make_spec(2, 2, allocated=12),
        make_spec(2, 2, allocated=16, kind="float"),
    ],
)
def test_frames_without_samples_of_their_own_are_refused(spec: FrameSpec) -> None:
    with pytest.raises(UnsupportedFrame):
        unpack(bytes(-(-spec.frame_bits // 8)), spec)
    with pytest.raises(UnsupportedFrame):
        pack(np.zeros((2, 2, 3), np.uint8), spec)


def test_full_chroma_is_three_samples() -> None:
    spec = make_spec(1, 2, allocated=8, samples=3, photometric_interpretation="YBR_FULL_422", full_chroma=True)
    assert pack(unpack(b"abcdef", spec), spec) == b"abcdef"


def test_samples_of_another_type_are_not_packed() -> None:
    spec = make_spec(2, 2)
    with pytest.raises(UnsupportedFrame):
        pack(np.zeros((2, 2), np.int16), spec)
    with pytest.raises(UnsupportedFrame):
        pack(np.zeros((2, 3), np.uint16), spec)
    assert pack(np.zeros((2, 2), np.int16), replace(spec, pixel_representation=1)) == bytes(8)
