"""The choice of a codec by measuring."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from contract.codec_suite import make_frame, make_spec
from leanpacs.codecs import choice as choosing
from leanpacs.codecs import registry
from leanpacs.codecs.choice import BUSY_SECONDS_PER_GB, FALLBACK, FAST, Candidate, Choice, measure, sample_of
from leanpacs.codecs.codec import EncodeOptions
from leanpacs.codecs.native import pack
from leanpacs.dicom.frames import FrameSpec


def tried(choice: Choice) -> list[tuple[str, int]]:
    """What was tried."""
    return [(one.codec, one.effort) for one in choice.measured]


def smooth(spec: FrameSpec) -> bytes:
    """Native bytes of a smooth frame."""
    return pack(make_frame(spec, "smooth"), spec)


ALL = [("jpegxl", 1), ("htj2k", 1), ("jpegls", 1), ("jpegxl", 2), ("zstd", 3)]


@pytest.mark.parametrize(
    ("samples", "budget", "expected"),
    [
        (1, 60.0, ALL),
        (3, 60.0, ALL),
        (1, BUSY_SECONDS_PER_GB, [("jpegxl", 1), ("htj2k", 1), ("zstd", 3)]),
        (1, 15.0, [("jpegxl", 1), ("htj2k", 1), ("jpegls", 1), ("zstd", 3)]),
        (3, 30.0, [("jpegxl", 1), ("htj2k", 1), ("jpegls", 1), ("zstd", 3)]),
        (1, 0.0, [("zstd", 3)]),
    ],
)
def test_the_budget_says_what_is_tried(samples: int, budget: float, expected: list[tuple[str, int]]) -> None:
    spec = make_spec(40, 50, allocated=8, samples=samples)
    assert tried(measure(smooth(spec), spec, budget)) == expected


def test_the_smallest_is_chosen_and_comes_back() -> None:
    spec = make_spec(64, 64, stored=12)
    frame = smooth(spec)
    best = measure(frame, spec)
    sizes = [one.size_bytes for one in best.measured]
    assert best.stream is not None
    assert len(best.stream) == min(size for size in sizes if size is not None)
    assert best.ratio == len(best.stream) / len(frame)
    codec = registry.by_name(best.codec)
    assert registry.encode_frame(codec, frame, spec, best.options) == best.stream
    assert registry.decode_frame(codec, best.stream, spec, best.options) == frame


def test_equal_frames_give_equal_choices() -> None:
    spec = make_spec(64, 64, stored=12, pixel_representation=1)
    frame = smooth(spec)
    first, second = measure(frame, spec), measure(frame, spec)
    assert (first.codec, first.effort, first.precision, first.stream) == (
        second.codec,
        second.effort,
        second.precision,
        second.stream,
    )


def test_bits_above_bits_stored_need_all_bits() -> None:
    spec = make_spec(64, 64, stored=12)
    assert measure(smooth(spec), spec).precision == 12
    samples = make_frame(spec, "smooth")
    samples[5, 5] |= 0x8000
    best = measure(pack(samples, spec), spec, candidates=(Candidate("jpegls", 1, 1, 1),))
    assert (best.codec, best.precision) == ("jpegls", 16)


@pytest.mark.parametrize(
    "spec",
    [
        make_spec(16, 16, allocated=1),
        make_spec(16, 17, allocated=1),
        make_spec(16, 16, allocated=32),
        make_spec(16, 16, allocated=64, kind="float"),
        make_spec(16, 16, allocated=8, samples=3, photometric_interpretation="YBR_FULL_422"),
        make_spec(16, 16, allocated=12),
        make_spec(16, 16, allocated=8, samples=4),
    ],
)
def test_what_images_cannot_hold_goes_to_zstd(spec: FrameSpec) -> None:
    frame = bytes(-(-spec.frame_bits // 8))
    best = measure(frame, spec)
    assert best.codec == "zstd"
    assert tried(best) == ALL
    assert all(one.reason for one in best.measured[:-1])
    assert best.stream is not None
    assert registry.decode_frame(registry.by_name("zstd"), best.stream, spec, best.options) == frame


@pytest.mark.parametrize("planar", [0, 1])
def test_large_frames_are_sampled_in_several_places(planar: int) -> None:
    spec = make_spec(100, 10, allocated=8, samples=3, planar_configuration=planar)
    samples = np.arange(3000, dtype=np.uint32).astype(np.uint8).reshape(100, 10, 3)
    sample, sample_spec = sample_of(pack(samples, spec), spec, 300)
    assert sample_spec == replace(spec, rows=8)
    bands = [samples[first : first + 2] for first in (11, 36, 61, 86)]
    assert sample == pack(np.concatenate(bands), sample_spec)


def test_a_row_is_the_least_sample() -> None:
    spec = make_spec(9, 1000)
    sample, sample_spec = sample_of(bytes(18000), spec, 100)
    assert (len(sample), sample_spec.rows) == (2000, 1)


@pytest.mark.parametrize("spec", [make_spec(30, 30, allocated=1), make_spec(5, 6)])
def test_small_frames_and_odd_rows_are_not_cut(spec: FrameSpec) -> None:
    frame = bytes(-(-spec.frame_bits // 8))
    assert sample_of(frame, spec, 60) == (frame, spec)


def test_a_sample_gives_no_stream() -> None:
    spec = make_spec(800, 800)
    best = measure(bytes(1_280_000), spec)
    assert best.stream is None
    assert best.ratio < 0.01


def test_big_endian_frames() -> None:
    spec = make_spec(64, 64, stored=12)
    samples = make_frame(spec, "smooth")
    little, big = (
        measure(pack(samples, spec), spec),
        measure(pack(samples, spec, big_endian=True), spec, big_endian=True),
    )
    assert little.codec == big.codec != "zstd"
    assert little.stream == big.stream


def test_a_codec_that_decodes_to_something_else_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = make_spec(16, 16, allocated=8)

    class Faulty:
        name, extension = "faulty", "bad"

        def library(self) -> str:
            return "-"

        def refusal(self, spec: FrameSpec) -> None:
            return None

        def encode(self, samples: np.ndarray, spec: FrameSpec, options: EncodeOptions) -> bytes:
            return b"x"

        def decode(self, stream: bytes, spec: FrameSpec, options: EncodeOptions) -> np.ndarray:
            return np.zeros((16, 16), np.uint8)

    by_name = registry.by_name
    monkeypatch.setattr(choosing.registry, "by_name", lambda name: Faulty() if name == "faulty" else by_name(name))
    best = measure(smooth(spec), spec, candidates=(Candidate("faulty", 1, 1, 1),))
    assert best.codec == "zstd"
    assert best.measured[0].size_bytes is None
    assert "not what was encoded" in best.measured[0].reason


def test_zstd_is_always_tried() -> None:
    spec = make_spec(16, 16)
    assert tried(measure(smooth(spec), spec, candidates=())) == [("zstd", 3)]
    assert FALLBACK in FAST
