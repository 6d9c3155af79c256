"""The tree of errors: drawn as it is, fit to travel between processes, known at each border."""

from __future__ import annotations

import inspect
import pickle
from collections.abc import Iterator

import pytest

from leanpacs import errors
from leanpacs.cli.exits import exit_code
from leanpacs.errors import LeanPACSError
from leanpacs.services.dicomweb.problems import STATUS as HTTP_STATUS
from leanpacs.services.dimse.status import STATUS_OF_ERROR as DIMSE_STATUS


def tree(error: type[LeanPACSError] = LeanPACSError, depth: int = 0) -> Iterator[tuple[type[LeanPACSError], int]]:
    yield error, depth
    for child in error.__subclasses__():
        yield from tree(child, depth + 1)


ALL = [error for error, _ in tree()]
LEAVES = [error for error in ALL if not error.__subclasses__()]
SAMPLE_ARGUMENTS = {
    "offset": 7,
    "dictionary_id": 7,
    "number": 7,
    "number_of_frames": 3,
    "limit_seconds": 7.0,
    "seconds": 7.0,
    "limit_bytes": 7,
}


def make(error: type[LeanPACSError]) -> LeanPACSError:
    """An error with an argument of the right kind for each parameter."""
    if error.__init__ is Exception.__init__:
        return error("what happened")
    parameters = list(inspect.signature(error).parameters)
    return error(*(SAMPLE_ARGUMENTS.get(name, f"some {name}") for name in parameters))


def test_docstring_draws_the_tree() -> None:
    drawing = (errors.__doc__ or "").split("::", 1)[1]
    drawn = [
        (line.split()[0], (len(line) - len(line.lstrip()) - 4) // 2) for line in drawing.splitlines() if line.strip()
    ]
    assert drawn == [(error.__name__, depth) for error, depth in tree()]


def test_all_errors_are_in_one_module() -> None:
    assert {error.__module__ for error in ALL} == {"leanpacs.errors"}


@pytest.mark.parametrize("error", ALL, ids=lambda error: error.__name__)
def test_errors_travel_between_processes(error: type[LeanPACSError]) -> None:
    original = make(error)
    copy = pickle.loads(pickle.dumps(original))
    assert type(copy) is error
    assert str(copy) == str(original)
    assert vars(copy) == vars(original)
    assert copy.transient is original.transient


@pytest.mark.parametrize("error", ALL, ids=lambda error: error.__name__)
def test_each_error_says_what_it_is(error: type[LeanPACSError]) -> None:
    assert str(make(error))
    assert (error.__doc__ or "").strip().endswith(".")


@pytest.mark.parametrize("error", LEAVES, ids=lambda error: error.__name__)
def test_each_leaf_has_an_entry_at_each_border(error: type[LeanPACSError]) -> None:
    assert error in HTTP_STATUS
    assert error in DIMSE_STATUS
    assert exit_code(make(error)) not in (0, 1, 2)  # success, problems found, wrong usage


@pytest.mark.parametrize("error", ALL, ids=lambda error: error.__name__)
def test_no_border_takes_an_error_for_success(error: type[LeanPACSError]) -> None:
    assert HTTP_STATUS.get(error, 500) >= 400
    assert DIMSE_STATUS.get(error, 0x0110) != 0


@pytest.mark.parametrize("error", [error for error in ALL if error.transient], ids=lambda error: error.__name__)
def test_transient_errors_tell_senders_to_come_again(error: type[LeanPACSError]) -> None:
    assert HTTP_STATUS[error] in (503, 507)
    assert DIMSE_STATUS[error] in (0xA700, 0x0110)
