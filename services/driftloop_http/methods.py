"""HEAD and OPTIONS, which FastAPI's routes do not answer by themselves, for all of them."""

from starlette.responses import Response
from starlette.routing import Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send


def allowed(scope: Scope) -> str:
    """The methods of a URL, for `Allow`; empty if there is no such URL."""
    found: set[str] = set()
    for route in scope["app"].router.routes:
        methods = getattr(route, "methods", None)
        if methods and route.matches({**scope, "method": ""})[0] is not Match.NONE:
            found |= methods
    if "GET" in found:
        found.add("HEAD")
    return ", ".join(sorted(found | {"OPTIONS"})) if found else ""


class Methods:
    """ASGI: answers HEAD as GET without its body, and OPTIONS with `Allow`. What the rules of CORS
    want of OPTIONS is answered before."""

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
