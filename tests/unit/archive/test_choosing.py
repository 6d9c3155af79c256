"""Which form is soonest there: facts in, an order out."""

from __future__ import annotations

import pytest

from leanpacs.archive.giveback.choosing import Origin, coding_for, estimate, noise_of, soonest
from leanpacs.dicom.uids import EXPLICIT_LE, HTJ2K_LOSSLESS, JPEG_2000_LOSSLESS, JPEG_LS_LOSSLESS, JPEG_XL_LOSSLESS

MB, MBIT = 1e6, 125e3
RAW = 8 * 1000 * 1000
DENSE = {
    EXPLICIT_LE: Origin(RAW, RAW / 30e6),
    JPEG_LS_LOSSLESS: Origin(RAW, RAW / 30e6),
    HTJ2K_LOSSLESS: Origin(RAW, RAW / 30e6),
    JPEG_2000_LOSSLESS: Origin(RAW, RAW / 30e6),
    JPEG_XL_LOSSLESS: Origin(RAW, 0.004, 1_200_000, as_held=True),
}
"""Held as dense JPEG XL, which takes long to decode."""
FAST = {uid: Origin(RAW, RAW / 350e6) for uid in DENSE} | {HTJ2K_LOSSLESS: Origin(RAW, 0.004, 2_000_000, as_held=True)}
"""Held as HTJ2K."""
NATIVE = {uid: Origin(RAW, 0.01, RAW if uid == EXPLICIT_LE else None) for uid in DENSE}
"""Just landed, as it was received."""


def best(origins: dict[str, Origin], link: float | None, *, takes_zstd: bool = False, without: str = "") -> str:
    made = [
        estimate(origin, uid, takes_zstd=takes_zstd, bytes_a_second=link)
        for uid, origin in origins.items()
        if uid != without
    ]
    return soonest(made, link)[0].transfer_syntax


@pytest.mark.parametrize("link", [None, 0.5 * MBIT, 5 * MBIT, 1000 * MBIT])
def test_what_is_held_as_it_is_taken_is_passed_on(link: float | None) -> None:
    assert best(DENSE, link) == JPEG_XL_LOSSLESS
    assert best(FAST, link) == HTJ2K_LOSSLESS


def test_slow_lines_get_small_forms_and_fast_ones_what_is_soonest_made() -> None:
    assert best(NATIVE, 5 * MBIT, without=JPEG_XL_LOSSLESS) == JPEG_LS_LOSSLESS
    assert best(NATIVE, 1000 * MBIT, without=JPEG_XL_LOSSLESS) == HTJ2K_LOSSLESS
    assert best(NATIVE, 2000 * MB) == EXPLICIT_LE
    assert best(DENSE, 2000 * MB, without=JPEG_XL_LOSSLESS) == EXPLICIT_LE


def test_zstandard_makes_native_pixels_worth_sending() -> None:
    two = {uid: NATIVE[uid] for uid in (EXPLICIT_LE, JPEG_LS_LOSSLESS)}
    assert best(two, 400 * MBIT) == JPEG_LS_LOSSLESS
    assert best(two, 400 * MBIT, takes_zstd=True) == EXPLICIT_LE
    assert best(two, 5 * MBIT, takes_zstd=True) == JPEG_LS_LOSSLESS


@pytest.mark.parametrize(
    ("link", "few_values", "effort"),
    [
        (None, False, 0),
        (None, True, 0),
        (0.2 * MBIT, False, 5),
        (5 * MBIT, False, 3),
        (5 * MBIT, True, 2),
        (0.2 * MBIT, True, 3),
        (100 * MBIT, False, 1),
        (100 * MBIT, True, 1),
    ],
)
def test_the_slower_the_line_the_more_effort(link: float | None, few_values: bool, effort: int) -> None:
    made = estimate(Origin(RAW, 0.1, few_values=few_values), JPEG_XL_LOSSLESS, bytes_a_second=link)
    assert made.effort == effort
    held = estimate(Origin(RAW, 0.1, 1_000_000, True, few_values), JPEG_XL_LOSSLESS, bytes_a_second=link)
    assert held.effort == 0


def test_noise_is_noise_by_any_codec() -> None:
    held = Origin(RAW, 0.01, 4_700_000, as_held=True)
    noise = noise_of("jpegxl", 4_700_000, RAW)
    assert best({JPEG_XL_LOSSLESS: held, HTJ2K_LOSSLESS: Origin(RAW, 0.2)}, 5 * MBIT) == HTJ2K_LOSSLESS
    assert best({JPEG_XL_LOSSLESS: held, HTJ2K_LOSSLESS: Origin(RAW, 0.2, noise=noise)}, 5 * MBIT) == JPEG_XL_LOSSLESS
    assert noise_of("zstd", 4_700_000, RAW) == 1.0


def test_equal_ones_stay_in_the_order_given() -> None:
    same = [estimate(Origin(RAW, 0.1, 100, as_held=True), uid) for uid in (HTJ2K_LOSSLESS, JPEG_XL_LOSSLESS)]
    assert soonest(same, None) == same


@pytest.mark.parametrize(
    ("link", "level"), [(None, 1), (2 * MBIT, 6), (20 * MBIT, 3), (1000 * MBIT, 1), (1000 * MB, 0)]
)
def test_native_pixels_are_compressed_as_hard_as_the_line_is_slow(link: float | None, level: int) -> None:
    assert coding_for(link).level == level


def test_what_was_received_has_the_length_that_it_has() -> None:
    lossy = estimate(Origin(RAW, 0.1, 300_000), "1.2.840.10008.1.2.4.50")
    assert lossy.size_bytes == 300_000
    assert lossy.work_seconds > 0.1  # it is made again from what is held
