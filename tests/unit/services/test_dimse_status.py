"""Statuses: each outcome and each error has one, and what goes out is fit for the wire."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from dimse_peer import CT, store_command
from leanpacs import errors
from leanpacs.archive.intake.incoming import Outcome, Receipt
from leanpacs.services.dimse import status
from leanpacs.services.dimse.message import Command, decode
from leanpacs.services.dimse.status import STATUS_OF_ERROR, STATUS_OF_OUTCOME, Reply, Status, of_error, of_receipt


def kinds(error: type[errors.LeanPACSError] = errors.LeanPACSError) -> Iterator[type[errors.LeanPACSError]]:
    yield error
    for child in error.__subclasses__():
        yield from kinds(child)


@pytest.fixture
def command() -> Command:
    return decode(store_command("1.2.3"), 1)


@pytest.mark.parametrize("kind", [k for k in kinds() if not k.__subclasses__()], ids=lambda kind: kind.__name__)
def test_each_leaf_error_has_a_failure_status(kind: type[errors.LeanPACSError]) -> None:
    assert STATUS_OF_ERROR[kind] is not Status.SUCCESS


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (errors.StoreFull("no room"), 0xA700),
        (errors.CatalogUnavailable("locked"), 0x0110),
        (errors.StoreUnavailable("gone"), 0x0110),
        (errors.NotDicom("no"), 0xC000),
        (errors.RefusedByPolicy("quota", "no"), 0x0124),
        (errors.LeanPACSError("anything"), 0x0110),
        (OSError(errno.ENOSPC, "No space left on device"), 0xA700),
        (KeyError("a bug"), 0x0110),
    ],
)
def test_status_of_errors(error: Exception, expected: int) -> None:
    assert of_error(error).status == expected


def test_error_comment_of_a_bug_tells_nothing() -> None:
    assert of_error(RuntimeError("/secret/path")).comment == "internal error"


@pytest.mark.parametrize("outcome", Outcome)
def test_each_outcome_has_a_status(outcome: Outcome, command: Command) -> None:
    reply = of_receipt(Receipt(outcome, 1, sop_class=CT, sop_uid="1.2.3", reason="because"), command)
    assert reply.status == STATUS_OF_OUTCOME[outcome]
    held = outcome not in (Outcome.REFUSED, Outcome.QUARANTINED)
    assert (reply.status == 0) is held
    assert reply.comment == ("" if held else "because")


@pytest.mark.parametrize(
    ("sop_class", "sop_uid", "comment"),
    [
        (CT, "1.2.4", "the data set has another SOP Instance UID"),
        ("1.2.840.10008.5.1.4.1.1.4", "1.2.3", "the data set has another SOP Class UID"),
    ],
)
def test_mismatch_of_command_and_data_set(sop_class: str, sop_uid: str, comment: str, command: Command) -> None:
    reply = of_receipt(Receipt(Outcome.STORED, 1, sop_class=sop_class, sop_uid=sop_uid), command)
    assert reply == Reply(Status.DATA_SET_MISMATCH, comment)


def test_what_is_not_named_does_not_mismatch(command: Command) -> None:
    assert of_receipt(Receipt(Outcome.STORED, 1), command).status == 0
    assert of_receipt(Receipt(Outcome.STORED, 1, sop_class=CT, sop_uid="9"), Command(1, {})).status == 0


def test_comment_is_one_short_printable_value() -> None:
    comment = Reply(Status.PROCESSING_FAILURE, "a\\b\nc\tü" + 100 * "x").comment
    assert comment == "a/b c ?" + 57 * "x"
    assert len(comment) == status.LONGEST_COMMENT


def test_module_documents_each_status() -> None:
    documented = {line.split()[0] for line in (status.__doc__ or "").splitlines() if line.startswith("0x")}
    assert documented == {f"0x{code:04X}" for code in Status}


def test_reference_page_lists_each_status() -> None:
    page = Path(__file__).parents[3] / "docs" / "reference" / "dimse.md"
    listed = re.findall(r"^\| (0x[0-9A-F]{4}) \|", page.read_text(encoding="utf-8"), re.MULTILINE)
    assert listed == [f"0x{code:04X}" for code in Status]
