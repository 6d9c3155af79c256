"""Modality Worklist: C-FIND for scheduled procedure steps (PS3.4 annex K)."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final, Protocol

from leanpacs.archive.giveback.matching import answer, matcher
from leanpacs.errors import LeanPACSError
from leanpacs.services.dimse import status
from leanpacs.services.dimse.association import Association
from leanpacs.services.dimse.identifiers import encode_data_set, read_data_set
from leanpacs.services.dimse.message import Command
from leanpacs.services.dimse.status import Reply, Status

if TYPE_CHECKING:
    from pydicom import Dataset

log = logging.getLogger(__name__)

MODALITY_WORKLIST: Final = "1.2.840.10008.5.1.4.31"


class Scheduling(Protocol):
    """What a worklist needs of an archive."""

    def items(self) -> Iterator[Dataset]:
        """Each scheduled procedure step with its order."""
        ...


class WorklistService:
    """Answers C-FIND requests for scheduled procedure steps.

    Parameters
    ----------
    scheduled : Scheduling
        What is scheduled.
    """

    def __init__(self, scheduled: Scheduling) -> None:
        self._scheduled = scheduled

    def __call__(self, association: Association, command: Command) -> Reply:
        """Answer each step that matches with a pending response."""
        syntax = association.contexts[command.context_id].transfer_syntax
        try:
            keys = read_data_set(association.data_set(), syntax)
            matches = matcher(keys)
            declared = keys.get("SpecificCharacterSet") or ""
            character_set = declared if isinstance(declared, str) else "\\".join(declared)
            for item in self._scheduled.items():
                if association.is_cancelled(command):
                    return Reply(Status.CANCELLED)
                if matches(item):
                    found = encode_data_set(answer(keys, item), syntax, character_set)
                    association.respond(command, Reply(Status.PENDING), found)
        except LeanPACSError as error:
            log.warning("worklist query failed: %s", error, extra={"action": "query", "calling": association.calling})
            return status.of_error(error)
        return Reply(Status.SUCCESS)
