"""By which address the client knows this server."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from starlette.requests import Request

_HOST: Final = re.compile(r"([0-9A-Za-z._~-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?")


def origin(request: Request, public_url: str = "") -> str:
    """Scheme and authority by which the client knows this server, without a slash at its end.

    Parameters
    ----------
    request : Request
        Its Host (or :authority) field is used when it is well-formed.
    public_url : str
        What to use instead, for a server behind a proxy; '' when there is none.
    """
    if public_url:
        return public_url.rstrip("/")
    host = request.headers.get("host", "")
    if not _HOST.fullmatch(host):
        address, port = request.scope.get("server") or ("localhost", None)
        host = f"{address}:{port}" if port else str(address)
    return f"{request.scope.get('scheme', 'http')}://{host}"
