"""Changes to ports that Serve opens in a replica, for which Serve has no option."""

from collections.abc import MutableMapping
from typing import Any

import uvicorn.config
from ray.serve._private import replica as internals

from driftloop_serving.http.http_protocol import Ingress


def keep_to_loopback() -> None:
    """Bind the replica's internal port to loopback. Serve 2.60 would bind it to all interfaces,
    regardless of the node's address (tests/e2e checks all sockets of a stack)."""
    bind = internals.add_port_to_grpc_server
    internals.add_port_to_grpc_server = lambda server, address: bind(
        server, address.replace("[::]", "127.0.0.1")
    )


def take_over_http(ingress: Ingress, app: Any) -> None:
    """Make Serve's HTTP server use our protocol. Serve 2.60 starts its server after this call, with
    uvicorn's automatic protocol choice, which this replaces. Serve's own application only keeps its
    health checks, `/-/…`."""

    class Behind(ingress.protocol()):  # type: ignore[misc]
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            serves: Any = self.app  # type: ignore[has-type]

            async def choose(scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
                chosen = serves if scope["path"].startswith("/-/") else app
                await chosen(scope, receive, send)

            self.app = choose

    uvicorn.config.HTTP_PROTOCOLS["auto"] = Behind  # type: ignore[assignment]
