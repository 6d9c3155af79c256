"""Dictionaries and Zstandard frames: made, kept, found again; opened by stock tools; hostile ones refused."""

from __future__ import annotations

import dataclasses
import itertools
import pickle
import random
import runpy
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from leanpacs.errors import DictionaryMissing, NameTaken, PackError, StorageError
from leanpacs.storage.dictionary import (
    LARGEST_WITH_DICTIONARY,
    LEVELS,
    MAX_WINDOW_BYTES,
    Compressor,
    Dictionary,
    decompress,
    decompress_chunks,
    dictionary_id,
    load_all,
    save,
    shipped,
    train,
)
from leanpacs.storage.local import LocalStore
from leanpacs.storage.memory import MemoryStore

SCRIPTS = Path(__file__).parents[3] / "scripts"
NOON = datetime(2025, 1, 2, 12, tzinfo=UTC)
WORDS = ["Rows", "Columns", "Patient", "Study", "Series", "Instance", "MONOCHROME2", "1.2.840.10008.", "\0\0\4\0"]


def headers(seed: int, count: int, language: list[str] = WORDS) -> list[bytes]:
    """Header-like texts: the same words over and over, with numbers between them."""
    source = random.Random(seed)
    return [
        "".join(f"{source.choice(language)}{source.randint(0, 999)}" for _ in range(60)).encode() for _ in range(count)
    ]


@pytest.fixture(scope="module")
def trained() -> Dictionary:
    """A small dictionary for scope CT."""
    return train(headers(1, 300), scope="CT", version=1, size_bytes=4096, trained_at=NOON)


def other(seed: int, scope: str, version: int) -> Dictionary:
    """Another small dictionary."""
    return train(headers(seed, 300), scope=scope, version=version, size_bytes=2048, trained_at=NOON)


# --------------------------------------------------------------------------------------------- training


def test_training_is_deterministic(trained: Dictionary) -> None:
    assert train(headers(1, 300), scope="CT", version=1, size_bytes=4096, trained_at=NOON) == trained
    assert other(2, "CT", 1).id != trained.id


def test_a_trained_dictionary_says_what_it_is(trained: Dictionary) -> None:
    assert 1 << 15 <= trained.id < 1 << 31
    assert zstandard.ZstdCompressionDict(trained.data).dict_id() == trained.id
    assert len(trained.data) <= 4096
    assert (trained.scope, trained.version, trained.samples, trained.trained_at) == ("CT", 1, 300, NOON)


def test_training_takes_a_time_by_itself() -> None:
    assert train(headers(1, 50), scope="CT", version=1, size_bytes=1024).trained_at.tzinfo is UTC


@pytest.mark.parametrize("samples", [[], [bytes(9999)] * 7, [b""] * 20, [b"x"] * 20])
def test_too_little_to_learn_from(samples: list[bytes]) -> None:
    with pytest.raises(StorageError, match="too few"):
        train(samples, scope="CT", version=1)


def test_many_samples_are_thinned() -> None:
    samples = [random.Random(n % 50).randbytes(200_000) for n in range(200)]
    assert train(samples, scope="CT", version=1, size_bytes=1024, trials=1).samples == 67


def test_it_pays(trained: Dictionary) -> None:
    fresh = headers(99, 20)
    without = sum(len(Compressor().compress(header)) for header in fresh)
    with_it = sum(len(Compressor([trained]).compress(header, ["CT"])) for header in fresh)
    assert with_it < 0.9 * without


# ---------------------------------------------------------------------------------------------- keeping


def test_kept_dictionaries_are_found_again(tmp_path: Path, trained: Dictionary) -> None:
    store = LocalStore(tmp_path / "store")
    second = other(2, "CT", 2)
    first_mr = other(3, "MR", 1)
    for dictionary in (first_mr, second, trained, second):
        save(store, dictionary)
    assert load_all(store) == [trained, second, first_mr]
    assert store.kept(f"dictionaries/{trained.id}.dict") == trained.data
    assert len(store.kept_names()) == 6


def test_the_first_record_of_a_content_stays(trained: Dictionary) -> None:
    store = MemoryStore()
    save(store, trained)
    save(store, dataclasses.replace(trained, version=9))
    assert load_all(store) == [trained]


def test_other_content_under_one_id_is_refused(trained: Dictionary) -> None:
    store = MemoryStore()
    save(store, trained)
    with pytest.raises(NameTaken):
        save(store, dataclasses.replace(trained, data=trained.data + b"x"))


def test_a_dictionary_without_record_is_not_used_yet(trained: Dictionary) -> None:
    store = MemoryStore()
    store.keep(f"dictionaries/{trained.id}.dict", trained.data)
    assert load_all(store) == []
    save(store, trained)
    assert load_all(store) == [trained]


@pytest.mark.parametrize("damage", [b"{}", b"not json", b"[]", b'{"dictionary":2,"id":5}'])
def test_damaged_records_are_told_of(trained: Dictionary, damage: bytes) -> None:
    store = MemoryStore()
    store.keep("dictionaries/5.dict", trained.data)
    store.keep("dictionaries/5.json", damage)
    with pytest.raises(StorageError):
        load_all(store)


def test_damaged_content_is_told_of(trained: Dictionary) -> None:
    store = MemoryStore()
    store.keep("dictionaries/5.dict", trained.data[:-1] + b"?")
    store.keep("dictionaries/5.json", trained.record)
    with pytest.raises(StorageError, match="damaged"):
        load_all(store)


def test_data_that_is_no_dictionary_of_the_id(trained: Dictionary) -> None:
    with pytest.raises(StorageError):
        dataclasses.replace(trained, id=trained.id + 1)
    with pytest.raises(StorageError):
        Dictionary(40000, "CT", 1, b"plain text", 1, NOON)


# --------------------------------------------------------------------------------------------- choosing


def test_the_newest_of_the_first_scope_is_used(trained: Dictionary) -> None:
    newer, any_scope = other(2, "CT", 2), other(3, "*", 1)
    compressor = Compressor([newer, any_scope, trained])
    data = headers(7, 1)[0]
    assert dictionary_id(compressor.compress(data, ["CT"])) == newer.id
    assert dictionary_id(compressor.compress(data, ["MR", "CT"])) == newer.id
    assert dictionary_id(compressor.compress(data, ["MR"])) == any_scope.id
    assert dictionary_id(compressor.compress(data)) == any_scope.id
    assert dictionary_id(Compressor([trained]).compress(data, ["MR"])) == 0


def test_no_dictionary_where_that_is_smaller(trained: Dictionary) -> None:
    compressor = Compressor([trained])
    for data in (b"", b"abc", random.Random(1).randbytes(3000)):
        frame = compressor.compress(data, ["CT"])
        assert dictionary_id(frame) == 0
        assert decompress(frame, (), len(data)) == data


def test_no_dictionary_for_large_content(trained: Dictionary) -> None:
    data = b"".join(headers(7, 2000))
    assert len(data) > LARGEST_WITH_DICTIONARY
    assert dictionary_id(Compressor([trained]).compress(data, ["CT"])) == 0


@pytest.mark.parametrize("level", [None, 1, 19])
def test_any_level(trained: Dictionary, level: int | None) -> None:
    compressor = Compressor([trained], level)
    for data in (*headers(7, 3), b"".join(headers(8, 200)), b"".join(headers(8, 2000))):
        assert decompress(compressor.compress(data, ["CT"]), [trained], len(data)) == data


def test_frames_say_how_long_they_are_and_carry_a_checksum(trained: Dictionary) -> None:
    data = headers(7, 1)[0]
    for frame in (
        Compressor([trained]).compress(data, ["CT"]),
        Compressor().compress(data),
        b"".join(Compressor().stream([data], size=len(data))),
    ):
        parameters = zstandard.get_frame_parameters(frame)
        assert parameters.content_size == len(data)
        assert parameters.has_checksum
        assert parameters.window_size <= MAX_WINDOW_BYTES


@pytest.mark.parametrize("length", [limit + more for limit, _ in LEVELS for more in (0, 1)] + [9 << 20])
def test_windows_stay_small_at_every_length(length: int) -> None:
    data = random.Random(1).randbytes(1 << 16) * (length // (1 << 16) + 1)
    frame = Compressor().compress(data[:length])
    assert zstandard.get_frame_parameters(frame).window_size <= MAX_WINDOW_BYTES
    assert decompress(frame, (), length) == data[:length]


def test_many_threads_share_a_compressor(trained: Dictionary) -> None:
    compressor = Compressor([trained, other(3, "*", 1)])
    data = headers(7, 200)
    with ThreadPoolExecutor(8) as pool:
        frames = list(pool.map(lambda header: compressor.compress(header, ["CT"]), data))
    assert frames == [compressor.compress(header, ["CT"]) for header in data]


def test_a_compressor_can_be_sent_to_another_process(trained: Dictionary) -> None:
    compressor = Compressor([trained], 7)
    data = headers(7, 1)[0]
    frame = compressor.compress(data, ["CT"])
    assert pickle.loads(pickle.dumps(compressor)).compress(data, ["CT"]) == frame


# ---------------------------------------------------------------------------------------- there and back


@given(data=st.binary(max_size=3000), sizes=st.lists(st.integers(1, 40), min_size=1, max_size=5))
def test_round_trip_in_any_chunks(data: bytes, sizes: list[int]) -> None:
    compressor = Compressor([shipped()])
    for frame in (compressor.compress(data), b"".join(compressor.stream(iter([data]), size=len(data)))):
        assert decompress(frame, [shipped()], len(data)) == data
        steps = itertools.accumulate(itertools.islice(itertools.cycle(sizes), len(frame) + 1), initial=0)
        pieces = [frame[a:b] for a, b in itertools.pairwise(steps)]
        assert b"".join(decompress_chunks(pieces, [shipped()])) == data


def test_streams_of_unknown_length() -> None:
    frame = b"".join(Compressor().stream(headers(1, 500)))
    assert zstandard.get_frame_parameters(frame).content_size == zstandard.CONTENTSIZE_UNKNOWN
    data = b"".join(headers(1, 500))
    assert decompress(frame, (), len(data)) == data
    with pytest.raises(PackError, match="more than"):
        decompress(frame, (), len(data) - 1)


@pytest.mark.parametrize("size", [0, 4, 6])
def test_streams_of_another_length_than_said(size: int) -> None:
    with pytest.raises(ValueError, match="has not"):
        list(Compressor().stream([b"12", b"345"], size=size))


def test_large_content_comes_in_pieces() -> None:
    data = bytes(50_000_000)
    frame = b"".join(Compressor().stream([data], size=len(data)))
    assert len(frame) < 10_000
    pieces = list(decompress_chunks([frame], ()))
    assert b"".join(pieces) == data
    assert max(map(len, pieces)) <= 40 << 20


@pytest.mark.external
@pytest.mark.parametrize("length", [300, 100_000, 900_000])
def test_the_zstd_program_opens_frames(tmp_path: Path, length: int, trained: Dictionary) -> None:
    if not shutil.which("zstd"):
        pytest.skip("the program zstd is not installed")
    data = b"".join(headers(5, 1 + length // 400))[:length]
    frame = Compressor([trained]).compress(data, ["CT"])
    assert dictionary_id(frame) == (trained.id if length <= LARGEST_WITH_DICTIONARY else 0)
    (tmp_path / "trained.dict").write_bytes(trained.data)
    command = ["zstd", "-d", "-q", "-c", "-D", str(tmp_path / "trained.dict")]
    done = subprocess.run(command, input=frame, capture_output=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == data


# ----------------------------------------------------------------------------------------- hostile frames


def both_ways(frame: bytes, dictionaries: list[Dictionary], max_size: int) -> None:
    """Decompress at once and in chunks; both must refuse."""
    with pytest.raises((PackError, DictionaryMissing)):
        decompress(frame, dictionaries, max_size)
    with pytest.raises((PackError, DictionaryMissing)):
        list(decompress_chunks([frame], dictionaries, max_size=max_size))


def test_a_missing_dictionary_is_named(trained: Dictionary) -> None:
    frame = Compressor([trained]).compress(headers(7, 1)[0], ["CT"])
    both_ways(frame, [shipped()], 1 << 20)
    with pytest.raises(DictionaryMissing) as caught:
        decompress(frame, [], 1 << 20)
    assert caught.value.dictionary_id == trained.id


def test_damage_is_found(trained: Dictionary) -> None:
    data = headers(7, 1)[0]
    frame = Compressor([trained]).compress(data, ["CT"])
    both_ways(b"", [trained], 1 << 20)
    both_ways(b"PK\3\4" + frame, [trained], 1 << 20)
    both_ways(frame + b"x", [trained], 1 << 20)
    both_ways(frame + frame, [trained], 1 << 20)
    both_ways(frame, [trained], len(data) - 1)
    for length in range(len(frame)):
        both_ways(frame[:length], [trained], 1 << 20)


@given(position=st.integers(0, 10**6), bit=st.integers(0, 7))
def test_no_flipped_bit_gives_other_content(position: int, bit: int) -> None:
    data = headers(7, 3)[0] * 3
    frame = bytearray(Compressor([shipped()]).compress(data))
    frame[position % len(frame)] ^= 1 << bit
    for ask in (
        lambda: decompress(bytes(frame), [shipped()], 1 << 20),
        lambda: b"".join(decompress_chunks([bytes(frame)], [shipped()], max_size=1 << 20)),
    ):
        with suppress(PackError, DictionaryMissing):
            assert ask() == data  # some bits of a frame have no meaning


def test_a_bomb_is_defused() -> None:
    bomb = zstandard.ZstdCompressor(level=1).compress(bytes(1 << 28))
    assert len(bomb) < 1 << 15
    both_ways(bomb, [], 1 << 20)


def test_sizes_that_are_only_claimed_cost_no_memory() -> None:
    claimed = b"\x28\xb5\x2f\xfd\xe0" + (1 << 40).to_bytes(8, "little") + b"\1\0\0"
    both_ways(claimed, [], 1 << 50)


def test_a_window_that_is_too_large_is_refused() -> None:
    parameters = zstandard.ZstdCompressionParameters(window_log=25)
    large = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    frame = large.compress(b"x" * 100) + large.flush()
    both_ways(frame, [], 1 << 20)


# ------------------------------------------------------------------------------------------------ shipped


def test_shipped_dictionary_is_sound() -> None:
    dictionary = shipped()
    assert dictionary.scope == "*"
    assert len(dictionary.data) <= 112_640
    assert zstandard.ZstdCompressionDict(dictionary.data).dict_id() == dictionary.id
    store = MemoryStore()
    save(store, dictionary)
    assert load_all(store) == [dictionary]


def synthetic_headers() -> list[bytes]:
    """One round of invented headers that the shipped dictionary was not trained on."""
    sys.path.insert(0, str(SCRIPTS))
    try:
        module = runpy.run_path(str(SCRIPTS / "synthetic_headers.py"))
    finally:
        sys.path.remove(str(SCRIPTS))
    return list(module["synthetic_headers"](777, 1))


def test_shipped_dictionary_shrinks_headers() -> None:
    fresh = [header for header in synthetic_headers() if len(header) < 8000]
    without = sum(len(Compressor().compress(header)) for header in fresh)
    with_it = sum(len(Compressor([shipped()]).compress(header)) for header in fresh)
    assert with_it < 0.6 * without


def test_invented_headers_are_the_same_each_time() -> None:
    assert synthetic_headers() == synthetic_headers()
