"""The command line, called as the installed command calls it."""

from __future__ import annotations

import io
import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import Any
from unittest import mock

from leanpacs.__main__ import main


def run(*arguments: object, expect: int = 0) -> Any:
    """Run ``leanpacs`` in this process; what it printed, parsed when it is JSON.

    A process of its own takes two seconds more, most of them to import what is imported here already.
    """
    out, err, code = io.StringIO(), io.StringIO(), 0
    command = ["leanpacs", *map(str, arguments)]
    with mock.patch.object(sys, "argv", command), redirect_stdout(out), redirect_stderr(err), logging_as_before():
        try:
            main()
        except SystemExit as ended:
            code = int(ended.code or 0)
    return _checked(arguments, code, out.getvalue(), err.getvalue(), expect)


def run_installed(*arguments: object, expect: int = 0) -> Any:
    """The same in a process of its own."""
    command = [sys.executable, "-m", "leanpacs", *map(str, arguments)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    return _checked(arguments, ended.returncode, ended.stdout, ended.stderr, expect)


def _checked(arguments: tuple[object, ...], code: int, out: str, err: str, expect: int) -> Any:
    assert code == expect, out + err
    assert "Traceback" not in err
    return json.loads(out) if "--json" in arguments else out + err


@contextmanager
def logging_as_before() -> Iterator[None]:
    """Whoever sets up the log of this process, it is as it was afterwards."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    try:
        yield
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
