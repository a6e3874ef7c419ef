"""Answers HEAD and OPTIONS for all routes, which FastAPI does not."""

from starlette.responses import Response
from starlette.routing import Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send


def allowed(scope: Scope) -> str:
    """Return the methods of a URL for the header `Allow`; empty if there is no such URL."""
    found: set[str] = set()
    for route in scope["app"].router.routes:
        methods = getattr(route, "methods", None)
        if methods and route.matches({**scope, "method": ""})[0] is not Match.NONE:
            found |= methods
    if "GET" in found:
        found.add("HEAD")
    return ", ".join(sorted(found | {"OPTIONS"})) if found else ""


class Methods:
    """ASGI middleware: answers HEAD as GET without its body, and OPTIONS with `Allow`. CORS
    preflight requests are answered before it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        method = scope.get("method")
        if method == "OPTIONS" and (methods := allowed(scope)):
            await Response(status_code=204, headers={"allow": methods})(scope, receive, send)
        elif method == "HEAD" and "GET" in allowed(scope):

            async def send_head(message: Message) -> None:
                if message["type"] == "http.response.body":
                    message = {**message, "body": b""}
                await send(message)

            await self._app({**scope, "method": "GET"}, receive, send_head)
        else:
            await self._app(scope, receive, send)
