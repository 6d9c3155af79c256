"""The log says no names of patients; metrics add up over processes."""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from prometheus_client.parser import text_string_to_metric_families

from leanpacs.telemetry import Gauge, Metrics, configure_logging


@pytest.fixture(autouse=True)
def _restored_logging() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def samples(text: bytes) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


def test_both_kinds_of_logger_end_in_one_stream(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(format="json")
    structlog.get_logger("leanpacs.a").info("landed", sop_uid="1.2.3")
    logging.getLogger("leanpacs.b").warning("slow: %s s", 3, extra={"action": "settle"})
    first, second = (json.loads(line) for line in capsys.readouterr().err.splitlines())
    assert (first["event"], first["logger"], first["sop_uid"]) == ("landed", "leanpacs.a", "1.2.3")
    assert (second["event"], second["level"], second["action"]) == ("slow: 3 s", "warning", "settle")


@pytest.mark.parametrize("format", ["json", "console"])
def test_patients_are_masked(format: str, capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(format=format)
    structlog.get_logger("leanpacs.a").info("landed", patient_name="Doe^Jane")
    logging.getLogger("leanpacs.b").info("landed", extra={"patient_id": "Doe^Jane"})
    text = capsys.readouterr().err
    assert text.count("***") == 2
    assert "Doe" not in text


@pytest.mark.parametrize("format", ["json", "console"])
def test_tracebacks_show_no_local_variables(format: str, capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(format=format)
    secret = "".join(["Doe^", "Jane"])
    try:
        raise ValueError(len(secret))
    except ValueError:
        logging.getLogger("leanpacs.b").exception("failed")
    text = capsys.readouterr().err
    assert "ValueError" in text
    assert "Doe^Jane" not in text


def test_libraries_that_print_elements_stay_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(level="debug")
    logging.getLogger("pynetdicom.events").info("identifier")
    logging.getLogger("pydicom").warning("value")
    logging.getLogger("leanpacs").debug("ours")
    text = capsys.readouterr().err
    assert "ours" in text
    assert "identifier" not in text
    assert "value" not in text


def test_level_holds(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(level="error")
    structlog.get_logger("leanpacs").warning("nothing")
    assert capsys.readouterr().err == ""


def test_each_registry_is_its_own() -> None:
    one, other = Metrics(), Metrics()
    one.received.labels("stow", "stored").inc()
    key = ("leanpacs_received_instances_total", (("door", "stow"), ("outcome", "stored")))
    assert samples(one.exposition())[key] == 1
    assert key not in samples(other.exposition())


def test_gauges_are_grouped_by_name() -> None:
    gauges = [Gauge("held_instances", "Held.", n, {"modality": m}) for n, m in ((3, "CT"), (4, "MR"))]
    text = Metrics().exposition([*gauges, Gauge("backlog_bytes", "Landed.", 7)])
    found = samples(text)
    assert found["leanpacs_held_instances", (("modality", "CT"),)] == 3
    assert found["leanpacs_held_instances", (("modality", "MR"),)] == 4
    assert found["leanpacs_backlog_bytes", ()] == 7
    assert text.count(b"# TYPE leanpacs_held_instances gauge") == 1


def _run(program: str) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if k != "PROMETHEUS_MULTIPROC_DIR"}
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        capture_output=True,
        text=True,
        env=environment,
        timeout=120,
    )


@pytest.mark.parametrize("method", [m for m in ("spawn", "fork") if m in multiprocessing.get_all_start_methods()])
def test_processes_add_up(tmp_path: Path, method: str) -> None:
    (tmp_path / "counter_1.db").write_bytes(b"left by a run before")
    program = f"""
        import multiprocessing, pathlib
        from leanpacs import telemetry
        telemetry.share_metrics(pathlib.Path({str(tmp_path)!r}))
        start = ("from leanpacs.telemetry import Metrics; m = Metrics(); "
                 "m.received.labels('dimse', 'stored').inc(2); m.land_seconds.labels('dimse').observe(0.5)")
        context = multiprocessing.get_context({method!r})
        children = [context.Process(target=exec, args=(start,)) for _ in range(2)]
        [child.start() for child in children]
        [child.join() for child in children]
        print(telemetry.Metrics().exposition().decode())
    """
    found = samples(_run(program).stdout.encode())
    assert found["leanpacs_received_instances_total", (("door", "dimse"), ("outcome", "stored"))] == 4
    assert found["leanpacs_land_seconds_count", (("door", "dimse"),)] == 2


def test_sharing_too_late_is_told(tmp_path: Path) -> None:
    program = f"""
        import pathlib
        from leanpacs import telemetry
        telemetry.Metrics()
        telemetry.share_metrics(pathlib.Path({str(tmp_path)!r}))
        telemetry.Metrics()
    """
    run = _run(program)
    assert run.returncode != 0
    assert "share_metrics was called after" in run.stderr
