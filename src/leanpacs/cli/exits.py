"""What the command line ends with: one line for what went wrong, and the exit code of its kind."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Final

from leanpacs import errors
from leanpacs.cli import output

OK: Final = 0
PROBLEMS_FOUND: Final = 1
USAGE: Final = 2

EXIT_CODES: Final[dict[type[errors.LeanPACSError], int]] = {
    errors.LeanPACSError: PROBLEMS_FOUND,
    errors.ConfigError: 3,
    errors.DicomError: 4,
    errors.CodecError: 5,
    errors.StorageError: 6,
    errors.StoreFull: 7,
    errors.CatalogError: 8,
    errors.InstanceNotFound: 9,
    errors.RefusedByPolicy: 10,
    errors.WorkerError: 11,
    errors.ReportError: 12,
}
"""Exit codes by kind of error; the nearest class counts. 0 is success, 1 problems were found, 2 wrong usage."""


def exit_code(error: errors.LeanPACSError) -> int:
    """The exit code of an error: that of its nearest class in `EXIT_CODES`."""
    return next(EXIT_CODES[kind] for kind in type(error).__mro__ if kind in EXIT_CODES)


def run(app: Callable[[], object]) -> None:
    """Run commands; errors raised on purpose become one line and an exit code."""
    try:
        app()
    except errors.LeanPACSError as error:
        output.print_error(error)
        sys.exit(exit_code(error))
