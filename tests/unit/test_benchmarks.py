"""The benchmarks start, and make what they send; what they measure is not tested."""

from __future__ import annotations

import importlib
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType

import pytest
from pydicom import dcmread
from rich.console import Console

ROOT = Path(__file__).parent.parent.parent
NAMES = (
    "load",
    "meter",
    "servers",
    "senders",
    "report",
    "ingest",
    "comparison",
    "memory",
    "size",
    "dense",
    "line",
    "__main__",
)


@pytest.fixture
def benchmarks(monkeypatch: pytest.MonkeyPatch) -> dict[str, ModuleType]:
    monkeypatch.syspath_prepend(str(ROOT))
    return {name: importlib.import_module(f"benchmarks.{name}") for name in NAMES}


def test_a_load_is_distinct_native_and_the_same_again(
    benchmarks: dict[str, ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = benchmarks["load"]
    monkeypatch.delenv(load.DATA_VARIABLE, raising=False)
    sources = load.default_sources()[:1]
    first, second = (load.make_load(sources, tmp_path / name, 3) for name in ("first", "second"))
    assert {instance.modality for instance in first.instances} == {"CT", "MR", "CR", "US"}
    data_sets = [dcmread(instance.path) for instance in first.instances]
    assert len({ds.SOPInstanceUID for ds in data_sets}) == len({ds.PixelData for ds in data_sets}) == len(data_sets)
    assert {ds.file_meta.TransferSyntaxUID.keyword for ds in data_sets} == {"ExplicitVRLittleEndian"}
    assert all(ds.pixel_array.shape[:2] == (ds.Rows, ds.Columns) for ds in data_sets)
    assert [one.path.read_bytes() for one in first.instances] == [one.path.read_bytes() for one in second.instances]
    assert load.read_load(tmp_path / "first") == first


def test_senders_share_a_load_by_studies(benchmarks: dict[str, ModuleType], tmp_path: Path) -> None:
    load = benchmarks["load"]
    instances = tuple(
        load.Instance(tmp_path, str(study), "1", f"{study}.{number}", "1", "CT", 10 * study)
        for study in range(1, 6)
        for number in range(3)
    )
    shares = load.Load(tmp_path, instances).shares(2)
    assert sorted(instance.sop_uid for share in shares for instance in share) == [one.sop_uid for one in instances]
    assert not {one.study_uid for one in shares[0]} & {one.study_uid for one in shares[1]}
    assert [sum(one.size_bytes for one in share) for share in shares] == [240, 210]


def test_the_floor_and_its_table(benchmarks: dict[str, ModuleType], tmp_path: Path) -> None:
    load, ingest, comparison = (benchmarks[name] for name in ("load", "ingest", "comparison"))
    path = tmp_path / "1.dcm"
    path.write_bytes(bytes(100_000))
    one = load.Load(tmp_path, (load.Instance(path, "1.1", "1.2", "1.3", "1.4", "CT", 100_000),))
    run = ingest.run_gzip(ingest.DOORS[0], one, tmp_path / "work", 1)
    assert (run.stored, run.instances, run.problems) == (1, 1, ())
    assert 0 < run.on_disk < 0.01
    figures, _ = comparison.sheets(one, [run], peers=[])
    assert [row[0] for row in figures.rows] == ["**C-STORE, 1 association**", ingest.GZIP]
    assert f"| {ingest.GZIP} |" in figures.markdown()
    figures.print(Console(quiet=True))


def test_the_large_instance_reads(benchmarks: dict[str, ModuleType], tmp_path: Path) -> None:
    instance = benchmarks["memory"].write_large_instance(tmp_path / "large.dcm", frames=3)
    ds = dcmread(instance.path)
    frames = ds.pixel_array
    assert frames.shape == (3, 512, 512)
    assert frames.max() < 1 << ds.BitsStored
    assert len({frame.tobytes() for frame in frames}) == 3
    assert instance.sop_uid == ds.SOPInstanceUID


def test_results_take_the_place_of_the_last_ones(benchmarks: dict[str, ModuleType], tmp_path: Path) -> None:
    report = benchmarks["report"]
    page = tmp_path / "page.md"
    page.write_text(f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n", encoding="utf-8")
    sheet = report.Sheet("New", ("what", "figure"), (("one", "1"),))
    report.write_results(tmp_path / "results", "new", {"one": 1}, [sheet])
    for _ in range(2):
        report.update_page(page, tmp_path / "results", ["absent", "new"])
    text = page.read_text(encoding="utf-8")
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert text.count("### New") == 1
    assert "old" not in text
    report.write_results(tmp_path / "others", "other", {}, [report.Sheet("Other", ("what",), (("two",),))])
    report.update_page(page, tmp_path / "others", ["new", "other"])
    both = page.read_text(encoding="utf-8")
    assert (both.count("### New"), both.count("### Other"), both.endswith("after\n")) == (1, 1, True)


def test_the_meter_sees_children(benchmarks: dict[str, ModuleType]) -> None:
    meter = benchmarks["meter"]
    hold = "import subprocess, sys; print(flush=True); b = b'x' * (30 << 20); "
    command = hold + f"subprocess.run([sys.executable, '-c', {hold + 'input()'!r}])"
    with subprocess.Popen([sys.executable, "-c", command], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        tree = meter.Tree(process.pid)
        with meter.Peak(tree, pss=True, seconds=0.02) as peak:
            deadline = time.monotonic() + 60
            while peak.memory.rss < 60 << 20 and time.monotonic() < deadline:
                time.sleep(0.01)
        process.stdin.close()
    assert peak.memory.rss >= 60 << 20
    assert tree.processes() == []


def test_they_start_outside_of_the_tests() -> None:
    run = subprocess.run([sys.executable, "-m", "benchmarks", "--help"], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert "delivery" in run.stdout
