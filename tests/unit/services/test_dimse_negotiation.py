"""Association requests: what is agreed to, and what not."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom._uid_dict import UID_dictionary
from pynetdicom.pdu import A_ASSOCIATE_AC, A_ASSOCIATE_RJ

from dimse_peer import CT, DEFAULT_OFFERS, EXPLICIT_LE, IMPLICIT_LE, VERIFICATION, item, request
from leanpacs.dicom.uids import TRANSFER_SYNTAXES
from leanpacs.services.dimse.negotiation import (
    Context,
    ContextResult,
    Refusal,
    Terms,
    accept,
    choose,
    is_storage,
    refusal,
)
from leanpacs.services.dimse.proposal import read_request
from leanpacs.services.dimse.transport import AbortReason, Violation

TERMS = Terms("LEANPACS", 131072)
BIG_ENDIAN = "1.2.840.10008.1.2.2"
JPEG = "1.2.840.10008.1.2.4.50"
JPEG_LOSSLESS = "1.2.840.10008.1.2.4.70"
JPEG_2000 = "1.2.840.10008.1.2.4.91"
PRIVATE = "1.2.826.0.1.3680043.2.1.9"


def answer(content: bytes) -> A_ASSOCIATE_AC:
    pdu = A_ASSOCIATE_AC()
    pdu.decode(accept(read_request(content), TERMS)[0])
    return pdu


def test_reads_a_request() -> None:
    asked = read_request(request(called="ARCHIVE", calling="CT 1", max_pdu_bytes=0))
    assert (asked.called, asked.calling, asked.max_pdu_bytes) == ("ARCHIVE", "CT 1", 0)
    assert asked.offers == [(1, VERIFICATION, [IMPLICIT_LE]), (3, CT, [EXPLICIT_LE])]


def test_pynetdicom_reads_the_acceptance() -> None:
    content = request([*DEFAULT_OFFERS, (255, "1.2.840.10008.5.1.4.31", [IMPLICIT_LE])])
    pdu = answer(content)
    assert (pdu.reserved_aet, pdu.reserved_aec) == ("LEANPACS", "PEER")
    assert pdu.application_context_name == "1.2.840.10008.3.1.1.1"
    assert [(cx.context_id, cx.result, cx.transfer_syntax) for cx in pdu.presentation_context] == [
        (1, 0, IMPLICIT_LE),
        (3, 0, EXPLICIT_LE),
        (255, 3, IMPLICIT_LE),
    ]
    assert pdu.user_information is not None
    assert pdu.user_information.maximum_length == 131072
    assert (pdu.user_information.implementation_version_name or "").startswith("LEANPACS")


def test_accepted_contexts_say_how_data_sets_are_encoded() -> None:
    offers = [(1, CT, [JPEG]), (3, CT, [EXPLICIT_LE]), (5, "1.2.840.10008.5.1.4.31", [IMPLICIT_LE])]
    _, contexts = accept(read_request(request(offers)), TERMS)
    assert contexts == {1: Context(1, CT, JPEG), 3: Context(3, CT, EXPLICIT_LE)}


@pytest.mark.parametrize("syntax", [*TRANSFER_SYNTAXES, PRIVATE, "1.2.840.10008.1.2.4.999"])
def test_every_transfer_syntax_is_taken_as_it_is(syntax: str) -> None:
    pdu = answer(request([(1, CT, [syntax])]))
    assert [(cx.result, cx.transfer_syntax) for cx in pdu.presentation_context] == [(0, syntax)]


@pytest.mark.parametrize(
    ("offered", "chosen"),
    [
        ([IMPLICIT_LE, EXPLICIT_LE], EXPLICIT_LE),
        ([IMPLICIT_LE, BIG_ENDIAN, EXPLICIT_LE], EXPLICIT_LE),
        ([JPEG, IMPLICIT_LE], IMPLICIT_LE),
        ([JPEG_2000, JPEG_LOSSLESS, EXPLICIT_LE], JPEG_LOSSLESS),
        ([EXPLICIT_LE, JPEG_LOSSLESS], EXPLICIT_LE),
        ([PRIVATE, EXPLICIT_LE], EXPLICIT_LE),
        ([JPEG_2000, JPEG], JPEG_2000),
    ],
)
def test_choice_never_invites_loss(offered: Sequence[str], chosen: str) -> None:
    assert choose(CT, offered) == (ContextResult.ACCEPTED, chosen)


def test_context_without_transfer_syntax() -> None:
    assert choose(CT, [])[0] is ContextResult.TRANSFER_SYNTAXES_NOT_SUPPORTED


def test_all_storage_classes_of_the_standard_are_taken() -> None:
    storage = {uid for uid, (_, kind, *_) in UID_dictionary.items() if kind == "SOP Class" and is_storage(uid)}
    assert len(storage) > 150
    assert {
        "1.2.840.10008.5.1.4.1.1.3",  # retired
        "1.2.840.10008.5.1.4.1.1.66.4",
        "1.2.840.10008.5.1.4.1.1.501.1",  # DICOS
        "1.2.840.10008.5.1.4.34.7",
        "1.2.840.10008.5.1.4.38.1",
        "1.2.840.10008.5.1.4.45.1",
    } <= storage
    assert not {uid for uid in storage if "Storage" not in UID_dictionary[uid][0]}


@pytest.mark.parametrize(
    ("uid", "stored"),
    [
        ("1.2.840.113619.4.26", True),  # private
        ("1.2.840.10008.5.1.4.1.1.999", True),  # of a later edition
        ("1.2.840.10008.1.20.1", False),  # Storage Commitment
        ("1.2.840.10008.1.3.10", False),  # Media Storage Directory
        ("1.2.840.10008.5.1.4.1.2.1.1", False),  # Patient Root Find
        (VERIFICATION, False),
        (EXPLICIT_LE, False),
        ("", False),
    ],
)
def test_storage_classes(uid: str, stored: bool) -> None:
    assert is_storage(uid) is stored


@pytest.mark.parametrize(
    ("changes", "terms", "expected"),
    [
        ({}, TERMS, None),
        ({"called": "OTHER"}, TERMS, None),
        ({"called": "OTHER"}, Terms("LEANPACS", 0, check_called=True), Refusal.CALLED_AE_TITLE_NOT_RECOGNIZED),
        ({}, Terms("LEANPACS", 0, check_called=True, allowed_calling={"PEER"}), None),
        ({}, Terms("LEANPACS", 0, allowed_calling={"CT1"}), Refusal.CALLING_AE_TITLE_NOT_RECOGNIZED),
        ({"version": 2}, TERMS, Refusal.PROTOCOL_VERSION_NOT_SUPPORTED),
        ({"version": 3}, TERMS, None),
        ({"application": "1.2.3"}, TERMS, Refusal.APPLICATION_CONTEXT_NOT_SUPPORTED),
    ],
)
def test_refusals(changes: dict[str, object], terms: Terms, expected: Refusal | None) -> None:
    asked = read_request(request(**changes))  # type: ignore[arg-type]
    assert refusal(asked, terms) is expected


@pytest.mark.parametrize("refused", Refusal)
def test_pynetdicom_reads_the_rejection(refused: Refusal) -> None:
    pdu = A_ASSOCIATE_RJ()
    pdu.decode(refused.pdu())
    assert (pdu.result, pdu.source, pdu.reason_diagnostic) == refused.value
    assert pdu.reason_str != "(no value available)"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        bytes(68),
        request()[:-3],
        request([(2, CT, [EXPLICIT_LE])]),
        request() + item(0x99, b"?"),
        request(calling=" "),
    ],
    ids=["empty", "zeros", "cut", "even context ID", "unknown item", "blank AE title"],
)
def test_malformed_requests(content: bytes) -> None:
    with pytest.raises(Violation) as caught:
        read_request(content)
    assert caught.value.reason is AbortReason.INVALID_PARAMETER


@given(st.binary(max_size=300), st.integers(0, 200), st.binary(max_size=20))
def test_hostile_requests_do_no_harm(noise: bytes, where: int, change: bytes) -> None:
    whole = request()
    for content in (noise, whole[:where] + change + whole[where + len(change) :], whole[:68] + noise):
        with suppress(Violation):
            accept(read_request(content), TERMS)
