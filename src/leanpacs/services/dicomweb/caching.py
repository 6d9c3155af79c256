"""Validators, so that a client need not fetch again what it has.

References
----------
RFC 9110 8.8.3 (ETag), 13.1.2 (If-None-Match); RFC 9111 5.2.2 (Cache-Control).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from starlette.responses import Response

from leanpacs import __version__

if TYPE_CHECKING:
    from starlette.requests import Request

    from leanpacs.catalog import InstanceRow

_OPAQUE: Final = re.compile(r'(?:W/)?("[^"]*")')
VARY: Final = "Accept"
"""What answers that are kept depend on."""


def entity_tag(rows: Iterable[InstanceRow], *form: str, weak: bool = True) -> str:
    """Return the ETag of an answer made of these instances.

    Parameters
    ----------
    rows : iterable of InstanceRow
        In the order of the answer; what was received decides.
    form : str
        All else that the answer depends on: media type, transfer syntaxes, URLs in it.
    weak : bool
        False only when the body is the same byte for byte each time.
    """
    digest = hashlib.sha256(_bytes("\n".join((__version__, *form))))
    for row in rows:
        digest.update(row.data_set_digest.raw)
        digest.update(_bytes(row.sop_uid))
    return f'{"W/" if weak else ""}"{digest.hexdigest()[:32]}"'


def fields(etag: str) -> dict[str, str]:
    """Header fields of an answer that may be kept by the client, but not used without asking."""
    return {"etag": etag, "cache-control": "private, no-cache", "vary": VARY}


def not_modified(request: Request, etag: str) -> Response | None:
    """Return 304 when the client has this already (weak comparison), else None."""
    known = request.headers.get("if-none-match")
    if known is None:
        return None
    if known.strip() != "*" and _opaque(etag) not in _OPAQUE.findall(known):
        return None
    return Response(status_code=304, headers=fields(etag))


def _opaque(etag: str) -> str:
    return etag.removeprefix("W/")


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "backslashreplace")
