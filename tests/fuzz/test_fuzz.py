"""A bounded part of the fuzz, and what it ever found."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from pydicom.encaps import generate_frames

import data
from fuzz import files, seeds, streams
from fuzz.mutations import Change, changed, from_text, to_text
from leanpacs.codecs import registry
from leanpacs.codecs.codec import EncodeOptions
from leanpacs.dicom import uids
from leanpacs.errors import DecodeError

STREAMS = 1500
FILES = 150

own = {seed.name: seed for seed in seeds.own_streams()}


def own_and_bundled() -> list[seeds.StreamSeed]:
    """Seeds that are the same everywhere."""
    return [*own.values(), *seeds.bundled_streams()]


def test_spoilt_code_streams_do_no_harm() -> None:
    drawn = streams.cases(own_and_bundled(), STREAMS, 1)
    tally = streams.run(drawn, workers=2, seconds=60, memory_bytes=2_000_000_000)
    assert tally.findings == []
    assert sum(sum(counts.values()) for counts in tally.outcomes.values()) == STREAMS
    assert all(counts["DecodeError"] for counts in tally.outcomes.values())


def test_spoilt_files_do_no_harm() -> None:
    tally = files.run(files.cases(seeds.own_files(), FILES, 1), workers=2)
    assert tally.findings == []
    assert sum(tally.outcomes["landing"].values()) == FILES
    assert sum(tally.outcomes["packs"].values()) == tally.outcomes["landing"]["stored"] > 0


def test_recipes_make_the_same_again() -> None:
    drawn = list(streams.cases(own_and_bundled(), 40, 7))
    again = list(streams.cases(own_and_bundled(), 40, 7))
    assert [case.stream for case in drawn] == [case.stream for case in again]
    for case in drawn:
        assert changed(case.seed.stream, from_text(to_text(case.changes))) == case.stream


@pytest.mark.filterwarnings("ignore:Exception ignored in:pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("name", ["own/grey8/htj2k", "own/noise/htj2k", "own/colour/htj2k"])
@pytest.mark.parametrize("part", [0.5, 0.8, 0.99])
def test_htj2k_that_is_cut_is_refused(name: str, part: float) -> None:
    """Decoders fill up what is missing, and imagecodecs says nothing when OpenJPH gives up."""
    seed = own[name]
    with pytest.raises(DecodeError):
        registry.decode_received(seed.stream[: int(part * len(seed.stream))], seed.transfer_syntax, seed.spec)


@pytest.mark.filterwarnings("ignore:Exception ignored in:pytest.PytestUnraisableExceptionWarning")
def test_htj2k_that_openjph_gives_up_on_is_refused() -> None:
    """Its length is as declared, what is in it is not."""
    seed = own["own/noise/htj2k"]
    at = seed.stream.index(b"\xff\x93") + 2
    spoilt = changed(seed.stream, [Change(at, len(seed.stream) - 2, b"\xff" * (len(seed.stream) - 2 - at))])
    with pytest.raises(DecodeError):
        registry.decode_received(spoilt, seed.transfer_syntax, seed.spec)


@pytest.mark.parametrize("value", [0x55, 0x2A, 0])
def test_htj2k_frames_may_hold_what_marks_the_end(value: int) -> None:
    spec = replace(own["own/grey8/htj2k"].spec, rows=33, columns=20)
    samples = np.full((33, 20), value, np.uint8)
    stream = registry.by_name("htj2k").encode(samples, spec, EncodeOptions(1, 8))
    assert np.array_equal(registry.decode_received(stream, uids.HTJ2K_LOSSLESS, spec).samples, samples)


@pytest.mark.parametrize("part", [0.5, 0.8, 0.95])
def test_jpeg2000_that_is_cut_is_refused(part: float) -> None:
    seed = own["own/noise/jpeg2000"]
    with pytest.raises(DecodeError, match="cut"):
        registry.decode_received(seed.stream[: int(part * len(seed.stream))], seed.transfer_syntax, seed.spec)


@pytest.mark.parametrize("process", ["JPEG_BASELINE", "JPEG_LOSSLESS"])
def test_jpeg_that_cannot_hold_its_size_is_refused(process: str) -> None:
    """libjpeg makes half a gigabyte of grey of it."""
    recipe = data.Recipe(bits_allocated=8, bits_stored=8, rows=16, columns=16, transfer_syntax=getattr(data, process))
    stream = next(generate_frames(data.make_data_set(recipe).PixelData, number_of_frames=1))
    spec = replace(own["own/grey8/htj2k"].spec, rows=20_000, columns=20_000)
    at = next(i for i in range(len(stream)) if stream[i : i + 2] in (b"\xff\xc0", b"\xff\xc3")) + 5
    huge = changed(stream, [Change(at, at + 4, (20_000).to_bytes(2) * 2)])
    with pytest.raises(DecodeError, match="cannot hold"):
        registry.decode_received(huge, recipe.transfer_syntax, spec)
