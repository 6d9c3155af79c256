"""Images that use few of the values in their range."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.codec_suite import make_spec
from leanpacs.codecs import registry
from leanpacs.codecs.choice import FAST, OF_INDEXES, Candidate, frame_levels, has_gaps, measure
from leanpacs.codecs.codec import EncodeOptions
from leanpacs.codecs.levels import from_indexes, levels_of, may_have_levels, precision_of, to_indexes
from leanpacs.codecs.native import pack
from leanpacs.dicom.frames import FrameSpec
from leanpacs.errors import DecodeError, UnsupportedFrame

IMAGE_CODECS = ("jpegxl", "htj2k", "jpegls", "jpeg2000")


def stretched(spec: FrameSpec, step: int, count: int = 60) -> np.ndarray:
    """A smooth frame whose values are multiples of ``step``, negative ones among them when it is signed."""
    plane = np.add.outer(np.arange(spec.rows), np.arange(spec.columns)) * count // (spec.rows + spec.columns)
    low = -(count // 2) if spec.pixel_representation else 0
    plane = plane + np.random.default_rng(3).integers(0, 8, plane.shape)
    return ((plane + low) * step).astype(f"{'i' if spec.pixel_representation else 'u'}{spec.bits_allocated // 8}")


@pytest.mark.parametrize("signed", [0, 1])
@pytest.mark.parametrize("big_endian", [False, True])
@pytest.mark.parametrize("codec", IMAGE_CODECS)
def test_indexes_come_back_as_values(codec: str, *, big_endian: bool, signed: int) -> None:
    spec = make_spec(160, 140, pixel_representation=signed)
    samples = stretched(spec, 23)
    frame = pack(samples, spec, big_endian=big_endian)
    levels = frame_levels(frame, spec, big_endian=big_endian)
    assert levels == tuple(np.unique(samples).tolist())
    options = EncodeOptions(3, precision_of(levels), levels)
    by = registry.by_name(codec)
    stream = registry.encode_frame(by, frame, spec, options, big_endian=big_endian)
    assert registry.decode_frame(by, stream, spec, options, big_endian=big_endian) == frame
    plain = registry.encode_frame(by, frame, spec, EncodeOptions(3, 16), big_endian=big_endian)
    assert len(stream) < len(plain)


def test_they_are_used_when_they_are_worth_while() -> None:
    spec = make_spec(160, 140)
    by_index = [one for one in FAST if (one.codec, one.effort) != ("jpegxl", 2)]
    best = measure(pack(stretched(spec, 23), spec), spec, candidates=tuple(by_index))
    assert best.options.levels == best.levels != ()
    assert all(one.precision == precision_of(best.levels) for one in best.measured[: len(by_index) - 1])
    dense_values = measure(pack(stretched(spec, 1), spec), spec)
    assert dense_values.levels == ()


def test_what_finds_them_itself_is_taken_where_it_is_not_much_larger() -> None:
    spec = make_spec(400, 300)
    frame = pack(stretched(spec, 23), spec)
    itself = Candidate("jpegxl", 3, 48, 60, 20)
    best = measure(frame, spec, candidates=(*FAST, itself))
    tried = {(one.codec, one.effort): one for one in best.measured}
    assert tried["jpegxl", 1].precision == precision_of(frame_levels(frame, spec))
    assert tried["jpegxl", 3].precision == 16
    sizes = {key: one.size_bytes or len(frame) for key, one in tried.items()}
    plain = min(sizes.pop(("jpegxl", effort)) for effort in (2, 3))
    indexes = min(sizes.values())
    assert (best.levels == ()) is (plain <= OF_INDEXES * indexes)
    assert round(best.ratio * len(frame)) == (indexes if best.levels else plain)


@pytest.mark.parametrize(
    ("samples", "expected"),
    [
        (np.zeros((32, 32), np.uint16), 0),  # one value fills its range
        (np.arange(1024, dtype=np.uint16).reshape(32, 32) * 60, 0),  # too few samples for each level
        (np.tile(np.array([0, 2], np.uint16), (40, 40)), 0),  # two of three: more than half
        (np.tile(np.array([0, 3], np.uint16), (40, 40)), 2),
    ],
)
def test_when_they_are_not(samples: np.ndarray, expected: int) -> None:
    spec = make_spec(*samples.shape)
    assert len(levels_of([samples], spec)) == expected


@pytest.mark.parametrize(("step", "expected"), [(1, False), (2, True), (20, True)])
@pytest.mark.parametrize("signed", [0, 1])
def test_a_glance_tells_a_stretched_image_from_another(step: int, *, expected: bool, signed: int) -> None:
    spec = make_spec(256, 256, pixel_representation=signed)
    bell = np.random.default_rng(3).normal(200, 20, (256, 256)).astype("i2") * step
    # A bright mark and a dark border stand far from the rest, in every image.
    bell[0, :] = 30000
    bell[:, 0] = 0
    frame = pack(bell.astype("i2" if signed else "u2"), spec)
    assert has_gaps(frame, spec) is expected
    options = measure(frame, spec, candidates=FAST[:1], in_haste=True)
    assert bool(options.levels) is expected


def test_all_frames_count() -> None:
    spec = make_spec(40, 40)
    low, high = np.full((40, 40), 7, np.uint16), np.full((40, 40), 65535, np.uint16)
    assert levels_of([low, high], spec) == (7, 65535)
    assert levels_of([], spec) == ()


@given(st.lists(st.integers(-32768, 32767), min_size=1, max_size=50, unique=True), st.randoms(use_true_random=False))
def test_any_list_of_levels(values: list[int], random: object) -> None:
    spec = make_spec(7, 9, pixel_representation=1)
    levels = tuple(sorted(values))
    samples = np.array([random.choice(levels) for _ in range(63)], np.int16).reshape(7, 9)  # type: ignore[attr-defined]
    indexes = to_indexes(samples, spec, levels)
    assert indexes.dtype == np.uint16
    assert int(indexes.max()) < 1 << precision_of(levels)
    assert np.array_equal(from_indexes("x", indexes, spec, levels), samples)


def test_what_does_not_fit_is_refused() -> None:
    spec = make_spec(2, 2, allocated=8)
    with pytest.raises(UnsupportedFrame):
        to_indexes(np.array([[0, 5], [0, 6]], np.uint8), spec, (0, 5))
    with pytest.raises(DecodeError):
        from_indexes("x", np.array([[0, 2]], np.uint8), spec, (0, 5))


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (make_spec(4, 4), True),
        (make_spec(4, 4, allocated=8), True),
        (make_spec(4, 4, allocated=1), False),
        (make_spec(4, 4, allocated=32), False),
        (make_spec(4, 4, allocated=8, samples=3), False),
        (make_spec(4, 4, allocated=32, kind="float"), False),
    ],
)
def test_what_is_looked_at(spec: FrameSpec, *, expected: bool) -> None:
    assert may_have_levels(spec) == expected
