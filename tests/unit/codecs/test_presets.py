"""Presets: what is tried, what is taken, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from contract.codec_suite import make_frame, make_spec
from leanpacs.codecs import choice as choosing
from leanpacs.codecs import registry
from leanpacs.codecs.choice import (
    BUSY_SECONDS_PER_GB,
    FALLBACK,
    FAST,
    LARGEST_SAMPLE,
    Candidate,
    Choice,
    measure,
    sample_of,
)
from leanpacs.codecs.native import pack
from leanpacs.codecs.presets import BALANCED, DENSE, HASTY, PRESETS, QUICK, preset
from leanpacs.config import SettleSettings
from leanpacs.errors import ConfigError

SPEC = make_spec(96, 80, stored=12)
FRAME = pack(make_frame(SPEC, "smooth"), SPEC)
NOISY = pack(
    (np.add.outer(np.arange(96), np.arange(80)) * 9 + np.random.default_rng(5).integers(0, 60, (96, 80))).astype("u2"),
    SPEC,
)
"""Like an image: far smaller by prediction than by repetition."""


def tried(choice: Choice) -> list[tuple[str, int]]:
    return [(one.codec, one.effort) for one in choice.measured]


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_tries_its_candidates_within_its_own_budget(name: str) -> None:
    best = preset(name).choose(FRAME, SPEC)
    expected = [(one.codec, one.effort) for one in PRESETS[name].candidates]
    assert tried(best) == list(dict.fromkeys([*expected, (FALLBACK.codec, FALLBACK.effort)]))
    assert best.stream is not None
    assert registry.decode_frame(registry.by_name(best.codec), best.stream, SPEC, best.options) == FRAME


def test_large_frames_are_not_tried_with_what_does_not_help_them() -> None:
    efforts = {
        side: {
            one.effort for one in DENSE.candidates if one.codec == "jpegxl" and one.is_within(make_spec(side, 8), 1e9)
        }
        for side in (2048, 2049)
    }
    assert efforts == {2048: set(range(2, 10)), 2049: set(range(2, 8))}


def test_a_smaller_budget_holds_for_every_preset() -> None:
    for name in PRESETS:
        allowed = preset(name).choose(FRAME, SPEC, budget_seconds_per_gb=60).measured
        costs = {(one.codec, one.effort): one.cost(SPEC) for one in (*PRESETS[name].candidates, FALLBACK)}
        assert all(costs[one.codec, one.effort] <= 60 for one in allowed)


def test_denser_presets_are_not_larger() -> None:
    quick, balanced, dense = (one.choose(FRAME, SPEC).ratio for one in (QUICK, BALANCED, DENSE))
    assert dense <= quick
    assert balanced <= quick * (1 + BALANCED.slack)
    assert dense <= balanced


@pytest.mark.parametrize(
    ("text", "codec", "effort"),
    [
        ("jpegxl:9", "jpegxl", 9),
        ("jpegxl", "jpegxl", 7),
        ("htj2k", "htj2k", 1),
        ("jpegls:1", "jpegls", 1),
        ("zstd:19", "zstd", 19),
        ("zstd", "zstd", 19),
        ("deflate:9", "deflate", 9),
    ],
)
def test_one_codec_with_an_effort(text: str, codec: str, effort: int) -> None:
    one = preset(text)
    assert one.name == text
    assert (one.candidates[0].codec, one.candidates[0].effort) == (codec, effort)
    best = one.choose(FRAME, SPEC)
    assert tried(best) == list(dict.fromkeys([(codec, effort), ("zstd", 3)]))


def test_one_codec_is_taken_only_where_it_is_smaller() -> None:
    assert preset("raw").choose(FRAME, SPEC).codec == "zstd"
    assert preset("jpegls").choose(FRAME, SPEC).codec == "jpegls"


@pytest.mark.parametrize(
    "text", ["", "fastest", "jpeg", "jpegxl:", "jpegxl:0", "jpegxl:11", "jpegxl:x", "htj2k:2", "zstd:23", "zstd:-1"]
)
def test_what_there_is_not_is_refused(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        preset(text)
    assert caught.value.key == "settle.preset"


def test_a_little_size_is_given_up_for_speed() -> None:
    candidates = (Candidate("jpegxl", 7, 300, 300, 40), Candidate("jpegls", 1, 14, 14, 7))
    first, second = (one.size_bytes or 0 for one in measure(NOISY, SPEC, 1e9, candidates=candidates).measured[:2])
    smallest = min((first, "jpegxl"), (second, "jpegls"))[1]
    needed = max(first, second) / min(first, second) - 1
    assert needed > 0
    assert measure(NOISY, SPEC, 1e9, candidates=candidates, slack=needed + 1e-6).codec == "jpegls"
    assert measure(NOISY, SPEC, 1e9, candidates=candidates[::-1], slack=needed + 1e-6).codec == "jpegls"
    assert measure(NOISY, SPEC, 1e9, candidates=candidates, slack=needed / 2).codec == smallest


def test_reads_are_weighed_where_sizes_are_near() -> None:
    slow_to_read = Candidate("jpegxl", 3, 20, 20, 19)
    quick_to_read = Candidate("jpegls", 1, 25, 25, 1)
    best = measure(NOISY, SPEC, 1e9, candidates=(slow_to_read, quick_to_read), slack=0.3)
    assert best.codec == "jpegls"


def test_a_large_sample_is_spread_over_the_frame() -> None:
    spec = make_spec(4000, 1024, allocated=8)
    rows = np.repeat(np.arange(4000) // 16, 1024).astype(np.uint8)
    sample, sample_spec = sample_of(rows.tobytes(), spec, 2 * LARGEST_SAMPLE)
    bands = np.frombuffer(sample, np.uint8).reshape(sample_spec.rows, 1024)
    assert sample_spec.rows == 2048
    for band, first in enumerate((244, 1244, 2244, 3244)):
        ends = bands[512 * band, 0], bands[512 * band + 511, 0]
        assert ends == (first // 16, (first + 511) // 16)


def test_differences_are_tried_only_in_haste() -> None:
    hasty = tried(HASTY.choose(FRAME, SPEC, budget_seconds_per_gb=BUSY_SECONDS_PER_GB))
    assert hasty == [("delta", 1), ("jpegxl", 1), ("htj2k", 1), ("zstd", 3)]
    assert all(("delta", 1) not in tried(one.choose(FRAME, SPEC)) for one in PRESETS.values())


def test_by_default_no_image_codec_is_tried_in_haste() -> None:
    budget = SettleSettings().pressed_budget_seconds_per_gb
    for spec in (SPEC, make_spec(64, 64, samples=3, allocated=8)):
        frame = pack(make_frame(spec, "smooth"), spec)
        assert tried(HASTY.choose(frame, spec, budget_seconds_per_gb=budget)) == [("delta", 1), ("zstd", 3)]


def test_fast_is_what_it_was() -> None:
    assert [(one.codec, one.effort) for one in FAST] == [
        ("jpegxl", 1),
        ("htj2k", 1),
        ("jpegls", 1),
        ("jpegxl", 2),
        ("zstd", 3),
    ]
    assert (QUICK.slack, QUICK.sample_bytes, QUICK.seconds_per_gb) == (0.0, 1 << 20, 60.0)
    assert choosing.BUSY_SECONDS_PER_GB == 10
