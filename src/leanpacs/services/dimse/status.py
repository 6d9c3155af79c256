"""DIMSE statuses: what a sender is told of each outcome and of each error.

======  ============================================================  ====================
Status  Meaning                                                       Reference
======  ============================================================  ====================
0x0000  Success: durable and in the catalog                           PS3.4 table B.2-1
0x0110  Processing failure; trying again may help                     PS3.7 annex C
0x0111  Duplicate SOP instance: other bytes are held under this UID   PS3.7 annex C
0x0112  No such SOP instance                                          PS3.7 annex C
0x0115  Invalid argument value                                        PS3.7 annex C
0x0122  SOP class not supported on this presentation context          PS3.7 9.1.1.1.9
0x0123  No such action                                                PS3.7 annex C
0x0124  Not authorized: a rule of the archive forbids it              PS3.7 9.1.1.1.9
0x0211  Unrecognized operation                                        PS3.7 9.1.1.1.9
0xA700  Out of resources; try again later                             PS3.4 table B.2-1
0xA702  Out of resources: no sub-operation was possible               PS3.4 table C.4-2
0xA801  Move destination unknown                                      PS3.4 table C.4-2
0xA900  The data set is not what it was sent as, or no valid query    PS3.4 B.2.3, C.4.1.1.4
0xB000  Sub-operations are done, with failures or warnings            PS3.4 table C.4-2
0xC000  Cannot understand the data set (kept in quarantine)           PS3.4 table B.2-1
0xFE00  Cancelled                                                     PS3.4 table C.4-1
0xFF00  Pending: a match, or sub-operations go on                     PS3.4 table C.4-1
0xFF01  Pending, and some optional keys are not supported             PS3.4 table C.4-1
======  ============================================================  ====================
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from types import MappingProxyType

from leanpacs import errors
from leanpacs.archive.intake.incoming import Outcome, Receipt
from leanpacs.services.dimse.message import Command

LONGEST_COMMENT = 64
"""Characters of an Error Comment (0000,0902), VR LO."""


class Status(IntEnum):
    """Values of Status (0000,0900) that this archive sends."""

    SUCCESS = 0x0000
    PROCESSING_FAILURE = 0x0110
    DUPLICATE_SOP_INSTANCE = 0x0111
    NO_SUCH_SOP_INSTANCE = 0x0112
    INVALID_ARGUMENT_VALUE = 0x0115
    SOP_CLASS_NOT_SUPPORTED = 0x0122
    NO_SUCH_ACTION = 0x0123
    NOT_AUTHORIZED = 0x0124
    UNRECOGNIZED_OPERATION = 0x0211
    OUT_OF_RESOURCES = 0xA700
    NO_SUB_OPERATION_POSSIBLE = 0xA702
    MOVE_DESTINATION_UNKNOWN = 0xA801
    DATA_SET_MISMATCH = 0xA900
    SUB_OPERATIONS_FAILED = 0xB000
    CANNOT_UNDERSTAND = 0xC000
    CANCELLED = 0xFE00
    PENDING = 0xFF00
    PENDING_WITHOUT_SOME_KEYS = 0xFF01


@dataclass(frozen=True, slots=True)
class Reply:
    """Status and Error Comment of a response; the comment is fit for the wire.

    ``data_set`` goes with it if it is not None, and ``more`` are further elements of its command set.
    """

    status: Status
    comment: str = ""
    data_set: bytes | None = None
    more: Mapping[int, int | str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        # LO: one value of printable characters of the default repertoire (PS3.5 table 6.2-1)
        text = " ".join(self.comment.replace("\\", "/").split()).encode("ascii", "replace").decode()
        object.__setattr__(self, "comment", text[:LONGEST_COMMENT].rstrip())


STATUS_OF_OUTCOME: Mapping[Outcome, Status] = MappingProxyType(
    {
        Outcome.STORED: Status.SUCCESS,
        Outcome.DUPLICATE: Status.SUCCESS,
        Outcome.REPLACED: Status.SUCCESS,
        Outcome.KEPT_BOTH: Status.SUCCESS,
        Outcome.REFUSED: Status.DUPLICATE_SOP_INSTANCE,
        Outcome.QUARANTINED: Status.CANNOT_UNDERSTAND,
    }
)

STATUS_OF_ERROR: Mapping[type[errors.LeanPACSError], Status] = MappingProxyType(
    {
        errors.ConfigError: Status.PROCESSING_FAILURE,
        errors.AlreadyServed: Status.PROCESSING_FAILURE,
        errors.DicomError: Status.CANNOT_UNDERSTAND,
        errors.NotDicom: Status.CANNOT_UNDERSTAND,
        errors.MissingAttribute: Status.CANNOT_UNDERSTAND,
        errors.Truncated: Status.CANNOT_UNDERSTAND,
        errors.EncapsulationError: Status.CANNOT_UNDERSTAND,
        errors.InflateError: Status.CANNOT_UNDERSTAND,
        errors.InvalidWorklistItem: Status.CANNOT_UNDERSTAND,
        errors.CodecError: Status.PROCESSING_FAILURE,
        errors.UnsupportedTransferSyntax: Status.PROCESSING_FAILURE,
        errors.UnsupportedFrame: Status.PROCESSING_FAILURE,
        errors.DecodeError: Status.PROCESSING_FAILURE,
        errors.EncodeError: Status.PROCESSING_FAILURE,
        errors.VerificationError: Status.PROCESSING_FAILURE,
        errors.StorageError: Status.PROCESSING_FAILURE,
        errors.BlobNotFound: Status.PROCESSING_FAILURE,
        errors.BlobCorrupt: Status.PROCESSING_FAILURE,
        errors.PackError: Status.PROCESSING_FAILURE,
        errors.DictionaryMissing: Status.PROCESSING_FAILURE,
        errors.NameTaken: Status.PROCESSING_FAILURE,
        errors.StoreFull: Status.OUT_OF_RESOURCES,
        errors.StoreUnavailable: Status.PROCESSING_FAILURE,
        errors.BeingRestored: Status.PROCESSING_FAILURE,
        errors.CatalogError: Status.PROCESSING_FAILURE,
        errors.InstanceNotFound: Status.PROCESSING_FAILURE,
        errors.FrameNotFound: Status.PROCESSING_FAILURE,
        errors.InvalidQuery: Status.DATA_SET_MISMATCH,
        errors.CatalogUnavailable: Status.PROCESSING_FAILURE,
        errors.CatalogConflict: Status.PROCESSING_FAILURE,
        errors.WorkerError: Status.PROCESSING_FAILURE,
        errors.WorkerCrashed: Status.PROCESSING_FAILURE,
        errors.WorkerTimeout: Status.PROCESSING_FAILURE,
        errors.WorkerOutOfMemory: Status.PROCESSING_FAILURE,
        errors.RefusedByPolicy: Status.NOT_AUTHORIZED,
        errors.ReportError: Status.PROCESSING_FAILURE,
    }
)


def of_receipt(receipt: Receipt, command: Command) -> Reply:
    """Answer to a C-STORE that the archive took.

    A data set that is not the instance its command names is kept under its own UIDs, but the sender is not
    told that what it named is here.
    """
    status = STATUS_OF_OUTCOME[receipt.outcome]
    if status is not Status.SUCCESS:
        return Reply(status, receipt.reason or receipt.outcome.value)
    for name, named, found in (
        ("Class", command.sop_class, receipt.sop_class),
        ("Instance", command.sop_uid, receipt.sop_uid),
    ):
        if named and found and named != found:
            return Reply(Status.DATA_SET_MISMATCH, f"the data set has another SOP {name} UID")
    return Reply(status)


def of_error(error: BaseException) -> Reply:
    """Answer when the archive failed with ``error``."""
    for kind in type(error).__mro__:
        status = STATUS_OF_ERROR.get(kind)
        if status is not None:
            return Reply(status, str(error))
    if isinstance(error, OSError):
        return Reply(Status.OUT_OF_RESOURCES, error.strerror or "")
    return Reply(Status.PROCESSING_FAILURE, "internal error")
