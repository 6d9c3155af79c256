"""The stand-alone restorer on packs made by hand."""

from __future__ import annotations

import hashlib
import importlib.util
import io
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pydicom
import pytest

from leanpacs.storage.dictionary import shipped
from unit.restore import pack_builder as build

SCRIPT = Path(__file__).parents[3] / "restore" / "leanpacs_restore.py"
RNG = np.random.default_rng(7)

SMOOTH = np.add.outer(np.arange(24), np.arange(31))


def images(dtype: Any, low: int, high: int, *, frames: int = 2, samples: int = 1) -> Any:
    """Frames with all values from low to high among them."""
    shape = (frames, 24, 31) if samples == 1 else (frames, 24, 31, samples)
    values = RNG.integers(low, high, shape, endpoint=True)
    values[0, :12] = np.clip(low + SMOOTH[:12, :, None] if samples > 1 else low + SMOOTH[:12], low, high)
    values.flat[0], values.flat[-1] = low, high
    return values.astype(dtype)


LEVELS = [-2048, *[9] * 700]

CASES = {
    "jxl unsigned 12 bits": (images("u2", 0, 4095), "jpegxl", "jxl", {"precision": 12}),
    "jxl signed 12 bits": (images("i2", -2048, 2047), "jpegxl", "jxl", {"precision": 12}),
    "jxl signed 16 bits": (images("i2", -32768, 32767), "jpegxl", "jxl", {}),
    "jxl signed 8 of 16 bits": (images("i2", -128, 127), "jpegxl", "jxl", {"precision": 8}),
    "jxl colour in planes": (images("u1", 0, 255, samples=3), "jpegxl", "jxl", {"planar": 1}),
    "jls signed 16 bits": (images("i2", -32768, 32767), "jpegls", "jls", {}),
    "jls 10 bits, big endian": (images("u2", 0, 1023), "jpegls", "jls", {"precision": 10, "big_endian": 1}),
    "jls colour, odd length": (images("u1", 0, 255, samples=3)[:, :23, :], "jpegls", "jls", {}),
    "jls signed 8 bits": (images("i1", -128, 127), "jpegls", "jls", {}),
    "jls signed 12 bits": (images("i2", -2048, 2047), "jpegls", "jls", {"precision": 12}),
    "jls levels": (images("i2", 0, 700) * 9 - 2048, "jpegls", "jls", {"precision": 10, "levels": LEVELS}),
    "jxl levels": (images("i2", 0, 200) * 9 - 2048, "jpegxl", "jxl", {"precision": 8, "levels": LEVELS[:201]}),
    "htj2k levels, big endian": (
        images("u2", 0, 700) * 9,
        "htj2k",
        "j2c",
        {"precision": 10, "levels": [0, *LEVELS[1:]], "big_endian": 1},
    ),
    "htj2k signed 16 bits": (images("i2", -32768, 32767), "htj2k", "j2c", {}),
    "htj2k signed 7 of 16 bits": (images("i2", -64, 63), "htj2k", "j2c", {"precision": 7}),
    "htj2k colour": (images("u1", 0, 255, samples=3), "htj2k", "j2c", {"planar": 1}),
    "j2k unsigned 16 bits": (images("u2", 0, 65535), "jpeg2000", "j2k", {"big_endian": 1}),
    "j2k signed 16 bits": (images("i2", -32768, 32767), "jpeg2000", "j2k", {}),
    "delta unsigned 8 bits": (images("u1", 0, 255), "delta", "dlt", {}),
    "delta signed 16 bits": (images("i2", -32768, 32767), "delta", "dlt", {"big_endian": 1}),
    "delta colour": (images("u1", 0, 255, samples=3), "delta", "dlt", {"planar": 1}),
    "delta levels": (images("i2", 0, 700) * 9 - 2048, "delta", "dlt", {"precision": 10, "levels": LEVELS}),
    "zstd float": (RNG.normal(size=(3, 4, 5)).astype("f4"), "zstd", "zst", {}),
    "zstd big endian 32 bits": (images("u4", 0, 1 << 31), "zstd", "zst", {"big_endian": 1}),
    "trailing bytes": (images("u1", 0, 255), "jpegls", "jls", {"trailing": 3}),
}


@pytest.fixture
def restorer() -> ModuleType:
    """The script as a module."""
    spec = importlib.util.spec_from_file_location("leanpacs_restore", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """An empty store folder with the shipped dictionary."""
    folder = tmp_path / "store"
    (folder / "blobs").mkdir(parents=True)
    (folder / "dictionaries").mkdir()
    dictionary = shipped()
    (folder / "dictionaries" / f"{dictionary.id}.dict").write_bytes(dictionary.data)
    return folder


def put(store: Path, content: bytes) -> Path:
    """Put a blob as the archive does."""
    name = hashlib.sha256(content).hexdigest()
    path = store / "blobs" / name[:2] / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    return path


def restored(restorer: ModuleType, store: Path, *, name: str = build.INSTANCE) -> bytes:
    """What the one pack of a store becomes."""
    out = store.parent / "out"
    assert restorer.main([str(store), str(out)]) == 0
    return (out / build.STUDY / build.SERIES / f"{name}.dcm").read_bytes()


def hide(monkeypatch: pytest.MonkeyPatch, *modules: str) -> None:
    """Make modules look as if they were not installed."""
    for module in modules:
        monkeypatch.setitem(sys.modules, module, None)


@pytest.mark.parametrize("case", CASES)
def test_frames(restorer: ModuleType, store: Path, case: str) -> None:
    samples, codec, extension, facts = CASES[case]
    pack, data_set = build.frames(samples, codec, extension, **facts)
    put(store, pack)
    assert restored(restorer, store) == build.PREFACE + data_set


@pytest.mark.external
@pytest.mark.parametrize("case", [case for case, (_, codec, *_) in CASES.items() if codec not in ("delta", "zstd")])
def test_frames_by_stock_programs(
    restorer: ModuleType, store: Path, case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    samples, codec, extension, facts = CASES[case]
    program = {"jpegxl": "djxl", "jpegls": "dcmdjpls"}.get(codec, "opj_decompress")
    if not shutil.which(program):
        pytest.skip(f"{program} is not installed")
    pack, data_set = build.frames(samples, codec, extension, **facts)
    put(store, pack)
    hide(monkeypatch, "imagecodecs")
    assert restored(restorer, store) == build.PREFACE + data_set


def test_frames_without_any_decoder_are_told_of(
    restorer: ModuleType, store: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pack, _ = build.frames(images("u1", 0, 255), "jpegls", "jls")
    put(store, pack)
    hide(monkeypatch, "imagecodecs")
    monkeypatch.setenv("PATH", "")
    assert restorer.main([str(store), str(store.parent / "out")]) == 1
    assert "need the module imagecodecs" in capsys.readouterr().err


def test_streams_in_several_fragments(restorer: ModuleType, store: Path) -> None:
    fragments = [[b"\xff\xd8one", b"two!"], [b"three!"], [b"", b"four", b"x" * 3_000_000]]
    pack, data_set = build.streams(fragments, table=b"\0\0\0\0\x20\0\0\0\x40\0\0\0")
    put(store, pack)
    content = restored(restorer, store)
    assert content.endswith(data_set)
    assert pydicom.dcmread(io.BytesIO(content)).file_meta.TransferSyntaxUID == build.JPEG_BASELINE


def test_streams_too_short_for_their_layout(restorer: ModuleType, store: Path) -> None:
    pack, _ = build.streams([[b"abcd"]])
    put(store, pack.replace(b"frames/00001.jpg", b"frames/00002.jpg"))
    assert restorer.main([str(store), str(store.parent / "out")]) == 1


@pytest.mark.parametrize("dictionary", [None, shipped().data])
@pytest.mark.parametrize("preface", [b"", build.PREFACE])
@pytest.mark.parametrize("length", [0, 500, 5_000_000])
def test_whole(restorer: ModuleType, store: Path, length: int, preface: bytes, dictionary: bytes | None) -> None:
    data_set = (build.HEAD * (length // len(build.HEAD) + 1))[:length]
    put(store, build.whole(data_set, preface, dictionary))
    content = restored(restorer, store)
    if preface:
        assert content == preface + data_set
    else:
        assert content[128:132] == b"DICM"
        assert content.endswith(data_set)


def test_fresh_file_meta_is_right(restorer: ModuleType, store: Path) -> None:
    data_set = b"\x08\x00\x60\x00CS\x02\x00OT" + b"\x10\x00\x20\x00LO\x04\x00ABCD"
    put(store, build.whole(data_set))
    content = restored(restorer, store)
    ds = pydicom.dcmread(io.BytesIO(content))
    assert ds.PatientID == "ABCD"
    assert ds.file_meta.MediaStorageSOPInstanceUID == build.INSTANCE
    assert ds.file_meta.MediaStorageSOPClassUID == "1.2.840.10008.5.1.4.1.1.7"
    assert content[144 + ds.file_meta.FileMetaInformationGroupLength :] == data_set


@pytest.mark.parametrize("length", [10, 3_000_000])
def test_deflated(restorer: ModuleType, store: Path, length: int) -> None:
    pack, received = build.deflated(RNG.bytes(length))
    put(store, pack)
    assert restored(restorer, store) == build.PREFACE + received


@pytest.mark.external
@pytest.mark.parametrize("dictionary", [None, shipped().data])
def test_zstandard_by_program(
    restorer: ModuleType, store: Path, dictionary: bytes | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not shutil.which("zstd"):
        pytest.skip("the program zstd is not installed")
    data_set = build.HEAD * 20_000
    put(store, build.whole(data_set, build.PREFACE, dictionary))
    hide(monkeypatch, "zstandard", "compression")
    assert restored(restorer, store) == build.PREFACE + data_set


def test_landed_files_are_copied(restorer: ModuleType, store: Path) -> None:
    landed = build.PREFACE + build.HEAD
    path = put(store, landed)
    out = store.parent / "out"
    assert restorer.main([str(store), str(out)]) == 0
    assert (out / "landed" / f"{path.name}.dcm").read_bytes() == landed
    path.write_bytes(landed + b"x")
    assert restorer.main([str(store), str(out)]) == 1


def test_one_bad_pack_keeps_no_other_from_being_restored(
    restorer: ModuleType, store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = build.whole(build.HEAD, build.PREFACE)
    put(store, good)
    put(store, good[:-10])
    put(store, build.pack(build.manifest(b"", form="whole", leanpacs=2), {}))
    put(store, build.pack(build.manifest(b"", form="woven"), {"head.zst": build.zst(b"")}))
    out = store.parent / "out"
    assert restorer.main([str(store), str(out)]) == 1
    assert [path.name for path in out.rglob("*.dcm")] == [f"{build.INSTANCE}.dcm"]
    assert not list(out.rglob("*.partial"))
    told = capsys.readouterr()
    assert told.err.count("FAILED") == 3
    assert "1 restored and compared, 0 landed files copied, 3 failed; 1 dictionaries" in told.out


def test_other_bytes_than_received_are_kept_apart(restorer: ModuleType, store: Path) -> None:
    put(store, build.pack(build.manifest(b"A", form="whole"), {"head.zst": build.zst(b"B")}))
    facts = build.manifest(b"A", b"P", form="whole") | {"file_sha256": "0" * 64}
    put(store, build.pack(facts, {"head.zst": build.zst(b"PA")}))
    out = store.parent / "out"
    assert restorer.main([str(store), str(out)]) == 1
    assert not list(out.rglob("*.dcm"))
    assert len(list(out.rglob("*.mismatch"))) == 2


def test_missing_dictionary_is_named(restorer: ModuleType, store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    put(store, build.whole(build.HEAD, dictionary=shipped().data))
    shutil.rmtree(store / "dictionaries")
    assert restorer.main([str(store), str(store.parent / "out")]) == 1
    assert f"dictionary {shipped().id} is missing" in capsys.readouterr().err


def test_several_forms_of_one_instance_are_all_kept(restorer: ModuleType, store: Path) -> None:
    put(store, build.whole(b"first"))
    put(store, build.whole(b"second"))
    out = store.parent / "out"
    assert restorer.main([str(store), str(out)]) == 0
    assert len(list(out.rglob("*.dcm"))) == 2


def test_names_never_leave_the_folder(restorer: ModuleType, store: Path) -> None:
    put(store, build.whole(b"x", study="../../etc", instance="a/b"))
    out = store.parent / "out"
    assert restorer.main([str(store), str(out)]) == 0
    (found,) = out.rglob("*.dcm")
    assert found.is_relative_to(out)
    assert len(found.relative_to(out).parts) == 3


def test_single_pack_and_folder_of_packs(restorer: ModuleType, store: Path) -> None:
    folder = store.parent / "packs"
    folder.mkdir()
    (folder / "one.zip").write_bytes(build.whole(build.HEAD, dictionary=shipped().data))
    shutil.copytree(store / "dictionaries", folder / "dictionaries")
    assert restorer.main([str(folder), str(folder.parent / "a")]) == 0
    words = ["--dictionaries", str(store / "dictionaries"), str(folder / "one.zip"), str(folder.parent / "b")]
    assert restorer.main(words) == 0


def test_data_folder_with_stores_in_it(restorer: ModuleType, store: Path) -> None:
    put(store, build.whole(build.HEAD, dictionary=shipped().data))
    second = store.parent / "second"
    (second / "blobs").mkdir(parents=True)
    put(second, build.whole(build.HEAD, build.PREFACE, dictionary=shipped().data))
    out = store.parent.parent / "out"
    assert restorer.main([str(store.parent), str(out)]) == 0
    assert len(list(out.rglob("*.dcm"))) == 2


def test_runs_alone_and_imports_nothing_of_the_package(store: Path) -> None:
    put(store, build.whole(build.HEAD, build.PREFACE))
    code = f"import runpy, sys; sys.argv = ['restore', {str(store)!r}, {str(store.parent / 'out')!r}]\n"
    code += "try:\n    runpy.run_path(" + repr(str(SCRIPT)) + ", run_name='__main__')\n"
    code += "finally:\n    assert not [name for name in sys.modules if name.startswith('leanpacs')]"
    done = subprocess.run([sys.executable, "-c", code], env={**os.environ}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "1 restored" in done.stdout


def test_arguments_that_are_wrong(restorer: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as stopped:
        restorer.main([str(tmp_path / "nothing"), str(tmp_path)])
    assert stopped.value.code == 2
    assert restorer.main([str(tmp_path), str(tmp_path / "out")]) == 1  # nothing to restore is no success
