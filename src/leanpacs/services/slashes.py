"""A slash at the end of a path, as many clients write it, is passed over."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.routing import Router
    from starlette.types import Receive, Scope, Send


def pass_over(router: Router) -> None:
    """Answer paths that are known without the slash at their end.

    There is no redirect: it would repeat whatever Host the client has sent, and some clients lose the query or the
    body on the way.
    """
    router.redirect_slashes = False
    not_found = router.default

    async def without_slash(scope: Scope, receive: Receive, send: Send) -> None:
        path: str = scope["path"]
        if scope["type"] != "http" or path == "/" or not path.endswith("/") or path.endswith("//"):
            await not_found(scope, receive, send)
            return
        scope["path"] = path[:-1]  # in place: those around it look there for what was asked for
        await router.app(scope, receive, send)

    router.default = without_slash
