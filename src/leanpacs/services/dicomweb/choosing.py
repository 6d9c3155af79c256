"""Of the forms that a client takes equally gladly, the one that is soonest there over its line.

What was weighed is told in a ``Server-Timing`` field (W3C Server Timing), which browsers show, and in the log at level
debug.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

from leanpacs.dicom.uids import JPEG_XL_LOSSLESS
from leanpacs.errors import LeanPACSError
from leanpacs.services.dicomweb import compression
from leanpacs.services.links import link_of

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from leanpacs.archive.giveback.choosing import Estimate
    from leanpacs.archive.giveback.retrieve import Retriever
    from leanpacs.catalog import InstanceRow

_log = logging.getLogger(__name__)


class Chooser:
    """Orders transfer syntaxes for one request.

    Parameters
    ----------
    request : Request
        Whose client and line.
    retriever : Retriever
        Knows what is held.
    """

    def __init__(self, request: Request, retriever: Retriever) -> None:
        self._link = link_of(request.scope)
        self._takes_zstd = compression.takes_zstd(request)
        self._retriever = retriever
        self._known: dict[tuple[str, str, tuple[str, ...]], list[str]] = {}
        self._told = ""

    def order(self, row: InstanceRow, syntaxes: Sequence[str]) -> Sequence[str]:
        """The same transfer syntaxes, the soonest first; what holds for one instance holds for those of its series."""
        key = row.series_uid, row.transfer_syntax, tuple(syntaxes)
        if key not in self._known:
            self._known[key] = self._ordered(row, syntaxes)
        return self._known[key]

    def effort(self, row: InstanceRow, transfer_syntax: str) -> int:
        """With which effort code streams that have to be made are written for this line; 0 for the usual one."""
        if self._link is None or transfer_syntax != JPEG_XL_LOSSLESS:
            return 0
        try:
            (found,) = self._retriever.estimates(
                row, [transfer_syntax], takes_zstd=self._takes_zstd, bytes_a_second=self._link
            )
        except LeanPACSError:
            return 0
        return found.effort

    def explain(self, response: Response) -> None:
        """Tell in a header field what was chosen, if there was a choice."""
        if self._told:
            response.headers["server-timing"] = self._told

    def _ordered(self, row: InstanceRow, syntaxes: Sequence[str]) -> list[str]:
        try:
            found = self._retriever.estimates(row, syntaxes, takes_zstd=self._takes_zstd, bytes_a_second=self._link)
        except LeanPACSError as error:  # who cannot be read is told so when it is given
            _log.debug("no estimate: %s", error, extra={"action": "choose", "sop_uid": row.sop_uid})
            return sorted(syntaxes, key=lambda uid: uid != row.transfer_syntax)
        self._told = ", ".join(self._line(place, one) for place, one in enumerate(found))
        _log.debug("chosen: %s", self._told, extra={"action": "choose", "sop_uid": row.sop_uid})
        return [one.transfer_syntax for one in found]

    def _line(self, place: int, one: Estimate) -> str:
        """A metric of Server-Timing: milliseconds that a transfer syntax would take, and why."""
        line = "unknown line" if self._link is None else f"{self._link / 1e6:.2f} MB/s"
        text = f"{one.transfer_syntax}: {one.size_bytes / 1e6:.2f} MB, work {1000 * one.work_seconds:.1f} ms, {line}"
        name = "choice" if place == 0 else f"instead{place}"
        return f'{name};dur={1000 * one.seconds(self._link):.1f};desc="{text}"'
