"""The Store Instances Response Module: what became of each part of a store request.

============  =============================================================  ================================
Reason        Meaning here                                                    Reference
============  =============================================================  ================================
0xB007 45063  Warning: stored, though something about it is not as it should  PS3.18 table I.2-1
0x0110   272  Processing failure; trying again may help                       PS3.18 table I.2-2
0x0111   273  Other bytes are held under this SOP Instance UID                PS3.7 C.5.5
0x0124   292  A rule of the archive forbids it                                PS3.7 C.5.24
0xA700 42752  Out of resources; try again later                               PS3.18 table I.2-2
0xA900 43264  Not of the study that the request names                         PS3.18 table I.2-2
0xC000 49152  Not understood; what reads as no DICOM is kept in quarantine    PS3.18 table I.2-2
============  =============================================================  ================================

References
----------
PS3.18 10.5.3 (response), PS3.18 I (Store Instances Response Module).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Final

from leanpacs import errors
from leanpacs.archive.intake.incoming import Outcome, Receipt
from leanpacs.dicom.jsonvalues import attribute_json
from leanpacs.services.dicomweb.urls import Urls

_WARNED: Final = 0xB007
_STORED: Final = frozenset({Outcome.STORED, Outcome.DUPLICATE, Outcome.REPLACED, Outcome.KEPT_BOTH})


class FailureReason(IntEnum):
    """Values of Failure Reason (0008,1197) that this archive sends."""

    PROCESSING_FAILURE = 0x0110
    DUPLICATE = 0x0111
    NOT_AUTHORIZED = 0x0124
    OUT_OF_RESOURCES = 0xA700
    OTHER_STUDY = 0xA900
    NOT_UNDERSTOOD = 0xC000


@dataclass(frozen=True, slots=True)
class PartReport:
    """What became of one part.

    Attributes
    ----------
    number : int
        Position in the request, from 1.
    sop_class, sop_uid, study_uid, series_uid : str
        '' where they could not be read.
    failure : FailureReason or None
        None: it is held.
    reason : str
        Why it failed, or what is to be known about it; for people.
    """

    number: int
    sop_class: str = ""
    sop_uid: str = ""
    study_uid: str = ""
    series_uid: str = ""
    failure: FailureReason | None = None
    reason: str = ""

    @property
    def text(self) -> str:
        """The reason, with the part that it is about."""
        return f"part {self.number}: {self.reason}"


def of_receipt(number: int, receipt: Receipt) -> PartReport:
    """Report of a part that the archive took."""
    failure, reason = None, receipt.reason
    if receipt.outcome not in _STORED:
        refused = receipt.outcome is Outcome.REFUSED
        failure = FailureReason.DUPLICATE if refused else FailureReason.NOT_UNDERSTOOD
        reason = receipt.reason or receipt.outcome.value
    elif receipt.outcome is Outcome.DUPLICATE:
        reason = ""  # the same bytes are held: all is as the sender wants it
    return PartReport(
        number, receipt.sop_class, receipt.sop_uid, receipt.study_uid, receipt.series_uid, failure, reason
    )


def reason_of(error: errors.LeanPACSError) -> FailureReason:
    """Failure Reason when the archive failed with ``error``."""
    if isinstance(error, errors.StoreFull):
        return FailureReason.OUT_OF_RESOURCES
    if isinstance(error, errors.RefusedByPolicy):
        return FailureReason.NOT_AUTHORIZED
    return FailureReason.PROCESSING_FAILURE


def status_of(reports: Sequence[PartReport]) -> int:
    """HTTP status of the response (PS3.18 table 10.5.3-1).

    200: all are held and there is nothing to be said; 202: some are, or there are warnings; 507 and 503: none
    is, for want of room or of a service, and another time it may be; 409: none is, for whatever reasons.
    """
    failures = {report.failure for report in reports if report.failure is not None}
    if any(report.failure is None for report in reports):
        return 202 if any(report.reason for report in reports) else 200
    if failures == {FailureReason.OUT_OF_RESOURCES}:
        return 507
    return 503 if failures == {FailureReason.PROCESSING_FAILURE} else 409


def response_module(reports: Sequence[PartReport], urls: Urls) -> dict[str, Any]:
    """Response as a DICOM JSON Model object."""
    stored = [report for report in reports if report.failure is None]
    failed = [report for report in reports if report.failure is not None]
    named = [report for report in failed if report.sop_uid]
    studies = {report.study_uid for report in stored}
    module: dict[str, Any] = {}
    if len(studies) == 1:
        module["00081190"] = attribute_json("UR", urls.study(studies.pop()))
    if named:
        module["00081198"] = _sequence([_failed_item(report) for report in named])
    if stored:
        module["00081199"] = _sequence([_stored_item(report, urls) for report in stored])
    if len(named) < len(failed):
        module["0008119A"] = _sequence([{"00081197": _reason(report)} for report in failed if not report.sop_uid])
    return module


def _stored_item(report: PartReport, urls: Urls) -> dict[str, Any]:
    item = _reference(report)
    url = urls.instance(report.study_uid, report.series_uid, report.sop_uid)
    item["00081190"] = attribute_json("UR", url)
    if report.reason:
        item["00081196"] = {"vr": "US", "Value": [_WARNED]}
    return item


def _failed_item(report: PartReport) -> dict[str, Any]:
    return _reference(report) | {"00081197": _reason(report)}


def _reference(report: PartReport) -> dict[str, Any]:
    return {
        "00081150": attribute_json("UI", report.sop_class),
        "00081155": attribute_json("UI", report.sop_uid),
    }


def _reason(report: PartReport) -> dict[str, Any]:
    assert report.failure is not None
    return {"vr": "US", "Value": [int(report.failure)]}


def _sequence(items: list[dict[str, Any]]) -> dict[str, Any]:
    return {"vr": "SQ", "Value": items}
