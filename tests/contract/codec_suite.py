"""What every codec must do; a test class for each codec subclasses this.

Run as a program it decodes damaged streams of one codec: that happens in a process of its own, because a native decoder
may take the process along.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from leanpacs.codecs import registry
from leanpacs.codecs.codec import Codec, EncodeOptions
from leanpacs.codecs.registry import by_name, decode_frame, encode_frame
from leanpacs.dicom.frames import FrameSpec
from leanpacs.errors import DecodeError, UnsupportedFrame

DAMAGED_STREAMS = 400

KINDS = ("noise", "constant", "ends", "smooth", "sparse", "stripes")


def make_spec(
    rows: int, columns: int, *, allocated: int = 16, stored: int | None = None, samples: int = 1, **others: Any
) -> FrameSpec:
    """A frame of integers."""
    bits = allocated if stored is None else stored
    values: dict[str, Any] = {
        "pixel_representation": 0,
        "planar_configuration": 0,
        "photometric_interpretation": "RGB" if samples == 3 else "MONOCHROME2",
        "number_of_frames": 1,
    }
    return FrameSpec(rows, columns, samples, allocated, bits, bits - 1, **(values | others))


def make_frame(spec: FrameSpec, kind: str, seed: int = 0) -> NDArray[Any]:
    """Samples within Bits Stored; equal arguments give equal frames."""
    random = np.random.default_rng([seed, KINDS.index(kind)])
    shape = (spec.rows, spec.columns, spec.samples_per_pixel)[: 2 if spec.samples_per_pixel == 1 else 3]
    span = 1 << spec.bits_stored
    least = -(span // 2) if spec.pixel_representation else 0
    if kind == "noise":
        values = random.integers(0, span, shape)
    elif kind == "constant":
        values = np.full(shape, random.integers(0, span))
    elif kind == "ends":
        values = random.integers(0, 2, shape) * (span - 1)
    elif kind == "smooth":
        values = (span // 2 + np.cumsum(random.integers(-2, 3, shape), axis=1)) % span
    elif kind == "sparse":
        values = (random.random(shape) < 0.05) * (span - 1)
    else:
        # Rows from end to end among quiet ones: what a statistic of a few rows does not foresee.
        values = random.integers(0, max(1, span // 16) + 1, shape) % span
        values[random.integers(0, spec.rows)] = (np.arange(spec.columns) % 2 * (span - 1)).reshape(
            -1, *[1] * (len(shape) - 2)
        )
    kind_of_number = "i" if spec.pixel_representation else "u"
    return (values + least).astype(f"{kind_of_number}{spec.bits_allocated // 8}")


@st.composite
def frames(draw: st.DrawFn) -> tuple[FrameSpec, NDArray[Any]]:
    """Frames that image codecs take."""
    allocated = draw(st.sampled_from([8, 16]))
    side = st.one_of(st.integers(1, 40), st.integers(1, 300))
    spec = make_spec(
        draw(side),
        draw(side),
        allocated=allocated,
        stored=draw(st.integers(1, allocated)),
        samples=draw(st.sampled_from([1, 3])),
        pixel_representation=draw(st.sampled_from([0, 1])),
    )
    if spec.samples_per_pixel == 3:
        spec = replace(spec, photometric_interpretation=draw(st.sampled_from(["RGB", "YBR_FULL"])))
    return spec, make_frame(spec, draw(st.sampled_from(KINDS)), draw(st.integers(0, 9)))


class CodecSuite:
    """Subclasses name the codec."""

    codec: ClassVar[Codec]
    effort: ClassVar[int] = 1

    def require_exact(self, samples: NDArray[Any], spec: FrameSpec, precision: int | None = None) -> bytes:
        """Encode, decode, compare; returns the stream."""
        options = EncodeOptions(self.effort, precision or spec.bits_stored)
        before = samples.copy()
        stream = self.codec.encode(samples, spec, options)
        decoded = self.codec.decode(stream, spec, options)
        assert type(stream) is bytes
        assert decoded.dtype == samples.dtype
        np.testing.assert_array_equal(decoded, samples)
        np.testing.assert_array_equal(samples, before)
        return stream

    # ------------------------------------------------------------------------------------ exact

    def test_frames_come_back_exactly(self) -> None:
        # A property of each subclass: Hypothesis wants a function of its own for each.
        @settings(max_examples=60)
        @given(frames())
        def comes_back(frame: tuple[FrameSpec, NDArray[Any]]) -> None:
            spec, samples = frame
            self.require_exact(samples, spec)

        comes_back()

    @pytest.mark.parametrize("signed", [0, 1])
    @pytest.mark.parametrize("stored", range(1, 17))
    def test_each_number_of_bits(self, stored: int, signed: int) -> None:
        for allocated in (8, 16) if stored <= 8 else (16,):
            spec = make_spec(13, 11, allocated=allocated, stored=stored, pixel_representation=signed)
            for kind in KINDS:
                self.require_exact(make_frame(spec, kind), spec)
                self.require_exact(make_frame(spec, kind), spec, allocated)

    @pytest.mark.parametrize("samples", [1, 3])
    @pytest.mark.parametrize("shape", [(1, 1), (1, 7), (7, 1), (2, 2), (17, 33), (1, 700), (256, 256), (257, 255)])
    def test_each_shape(self, shape: tuple[int, int], samples: int) -> None:
        for allocated in (8, 16):
            spec = make_spec(*shape, allocated=allocated, samples=samples)
            for kind in ("noise", "constant", "stripes"):
                self.require_exact(make_frame(spec, kind), spec)

    def test_samples_that_are_not_contiguous(self) -> None:
        spec = make_spec(20, 15, samples=3)
        planes = np.moveaxis(make_frame(spec, "smooth"), -1, 0).copy()
        self.require_exact(np.moveaxis(planes, 0, -1), spec)

    def test_read_only_samples(self) -> None:
        spec = make_spec(20, 15)
        samples = np.frombuffer(make_frame(spec, "smooth").tobytes(), np.uint16).reshape(20, 15)
        self.require_exact(samples, spec)

    @pytest.mark.parametrize("big_endian", [False, True])
    @pytest.mark.parametrize("planar", [0, 1])
    def test_bytes_of_a_frame_come_back(self, planar: int, *, big_endian: bool) -> None:
        spec = make_spec(9, 14, samples=3, planar_configuration=planar)
        frame = np.random.default_rng(1).bytes(spec.frame_bytes or 0)
        options = EncodeOptions(self.effort, 16)
        stream = encode_frame(self.codec, frame, spec, options, big_endian=big_endian)
        assert decode_frame(self.codec, stream, spec, options, big_endian=big_endian) == frame

    # ------------------------------------------------------------------------------------ refused

    @pytest.mark.parametrize(
        "samples",
        [
            np.zeros((6, 5), np.uint16),
            np.zeros((5, 6), np.int16),
            np.zeros((5, 6), np.uint8),
            np.zeros((5, 6, 1), np.uint16),
        ],
        ids=["turned", "signed", "narrow", "three dimensions"],
    )
    def test_samples_of_another_shape_or_type_are_refused(self, samples: NDArray[Any]) -> None:
        with pytest.raises(UnsupportedFrame):
            self.codec.encode(samples, make_spec(5, 6), EncodeOptions(self.effort, 16))

    # ------------------------------------------------------------------------------------ damaged

    @pytest.mark.parametrize(
        "other",
        [make_spec(5, 7), make_spec(4, 6), make_spec(5, 6, samples=3), make_spec(5, 6, allocated=8)],
        ids=["wider", "lower", "colour", "narrow"],
    )
    def test_a_stream_of_another_frame_is_refused(self, other: FrameSpec) -> None:
        spec = make_spec(5, 6)
        stream = self.codec.encode(make_frame(spec, "noise"), spec, EncodeOptions(self.effort, 16))
        with pytest.raises(DecodeError):
            self.codec.decode(stream, other, EncodeOptions(self.effort, other.bits_stored))

    @pytest.mark.parametrize("stream", [b"", b"\0", bytes(200), b"\xff" * 200, b"\xff\xd8", b"\xff\x4f\xff\x51\0"])
    def test_what_is_no_stream_is_refused(self, stream: bytes) -> None:
        spec = make_spec(5, 6)
        with pytest.raises(DecodeError):
            self.codec.decode(stream, spec, EncodeOptions(self.effort, 16))

    def test_damaged_streams_raise_or_decode_to_something(self) -> None:
        run = subprocess.run(
            [sys.executable, __file__, self.codec.name, str(DAMAGED_STREAMS)],
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert run.returncode == 0, run.stderr
        assert run.stdout.split()[0] == str(DAMAGED_STREAMS)

    # ------------------------------------------------------------------------------------ named

    def test_name_and_library(self) -> None:
        assert by_name(self.codec.name) is self.codec
        assert self.codec.extension.islower()
        assert self.codec.library()
        assert self.codec in registry.all_codecs()


class ImageCodecSuite(CodecSuite):
    """For codecs that know what samples are."""

    has_size: ClassVar[bool] = True
    """Whether its streams say how many rows and columns there are."""

    @pytest.mark.parametrize(
        "spec",
        [
            make_spec(8, 8, allocated=32, kind="float"),
            make_spec(8, 8, allocated=1),
            make_spec(8, 8, allocated=12),
            make_spec(8, 8, allocated=8, samples=3, photometric_interpretation="YBR_FULL_422"),
        ],
        ids=["float", "1 bit", "12 bits", "4:2:2"],
    )
    def test_what_it_cannot_hold_is_refused(self, spec: FrameSpec) -> None:
        assert self.codec.refusal(spec)
        with pytest.raises(UnsupportedFrame):
            self.codec.encode(np.zeros((8, 8), np.uint8), spec, EncodeOptions(self.effort, 1))

    @pytest.mark.parametrize(
        ("signed", "value"), [(0, 1 << 12), (0, 65535), (1, 1 << 11), (1, -(1 << 11) - 1), (1, -32768)]
    )
    def test_a_value_beyond_the_precision_is_refused(self, signed: int, value: int) -> None:
        spec = make_spec(6, 6, stored=12, pixel_representation=signed)
        samples = make_frame(spec, "smooth")
        samples[3, 3] = value
        with pytest.raises(UnsupportedFrame, match="do not fit 12 bits"):
            self.codec.encode(samples, spec, EncodeOptions(self.effort, 12))
        self.require_exact(samples, spec, 16)

    @pytest.mark.parametrize("precision", [0, 17])
    def test_a_precision_that_no_frame_has_is_refused(self, precision: int) -> None:
        spec = make_spec(6, 6)
        with pytest.raises(UnsupportedFrame):
            self.codec.encode(make_frame(spec, "smooth"), spec, EncodeOptions(self.effort, precision))

    def test_a_stream_of_a_turned_frame_is_refused(self) -> None:
        spec, options = make_spec(5, 6), EncodeOptions(self.effort, 16)
        stream = self.codec.encode(make_frame(spec, "noise"), spec, options)
        if self.has_size:
            with pytest.raises(DecodeError):
                self.codec.decode(stream, make_spec(6, 5), options)
        else:
            assert self.codec.decode(stream, make_spec(6, 5), options).shape == (6, 5)


class ByteCodecSuite(CodecSuite):
    """For codecs that take frames as bytes."""

    @pytest.mark.parametrize(
        "spec",
        [
            make_spec(8, 8, allocated=64, kind="float"),
            make_spec(8, 9, allocated=1),
            make_spec(7, 7, allocated=1),
            make_spec(8, 8, allocated=12),
            make_spec(8, 8, allocated=8, samples=3, photometric_interpretation="YBR_FULL_422"),
            make_spec(8, 8, allocated=8, samples=4),
        ],
        ids=["float", "1 bit", "odd bits", "12 bits", "4:2:2", "4 samples"],
    )
    def test_holds_everything(self, spec: FrameSpec) -> None:
        assert self.codec.refusal(spec) is None
        frame = np.random.default_rng(3).bytes(-(-spec.frame_bits // 8))
        options = EncodeOptions(self.effort, spec.bits_allocated)
        stream = encode_frame(self.codec, frame, spec, options)
        assert decode_frame(self.codec, stream, spec, options) == frame


def damaged(stream: bytes, random: np.random.Generator) -> bytes:
    """Cut a stream, turn over bits of it, or write over a part of it."""
    how = random.integers(0, 4)
    changed = bytearray(stream)
    if how == 0:
        return bytes(changed[: random.integers(0, len(stream))])
    if how == 1:
        start = int(random.integers(0, len(stream)))
        changed[start : start + int(random.integers(1, 20))] = random.bytes(int(random.integers(1, 20)))
        return bytes(changed)
    reach = len(stream) if how == 2 else min(len(stream), 120)
    for position in random.integers(0, reach, int(random.integers(1, 4))):
        changed[position] ^= 1 << int(random.integers(0, 8))
    return bytes(changed)


def decode_damaged(codec: Codec, count: int) -> Iterator[str]:
    """Decode damaged streams; yields what became of each."""
    random = np.random.default_rng(7)
    for number in range(count):
        allocated, samples = (8, 16)[number % 2], (1, 3)[number // 2 % 2]
        side = random.integers(1, 90, 2)
        spec = make_spec(int(side[0]), int(side[1]), allocated=allocated, samples=samples)
        options = EncodeOptions(1, allocated)
        stream = damaged(codec.encode(make_frame(spec, "smooth", number), spec, options), random)
        try:
            decoded = codec.decode(stream, spec, options)
        except DecodeError:
            yield "refused"
        else:
            assert decoded.shape[:2] == (spec.rows, spec.columns)
            assert decoded.dtype == np.dtype(f"u{allocated // 8}")
            yield "decoded"


if __name__ == "__main__":
    outcomes = list(decode_damaged(by_name(sys.argv[1]), int(sys.argv[2])))
    print(len(outcomes), outcomes.count("refused"))
