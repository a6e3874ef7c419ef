"""Ports that Serve opens in a replica, changed where Serve has no option for it."""

from collections.abc import MutableMapping
from typing import Any

import uvicorn.config
from ray.serve._private import replica as internals

from driftloop_serving.http.http_protocol import Ingress


def keep_to_loopback() -> None:
    """On a head of our own nobody else may call: Serve 2.60 would bind the replica's internal port
    to every interface, whatever the node's address (tests/e2e checks all of a stack's sockets)."""
    bind = internals.add_port_to_grpc_server
    internals.add_port_to_grpc_server = lambda server, address: bind(
        server, address.replace("[::]", "127.0.0.1")
    )


def take_over_http(ingress: Ingress, app: Any) -> None:
    """Serve 2.60 starts its HTTP server after this, with uvicorn's automatic choice of a protocol.
    That choice is ours now; Serve's own application is left with its health checks, `/-/…`."""

    class Behind(ingress.protocol()):  # type: ignore[misc]
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            serves: Any = self.app  # type: ignore[has-type]

            async def choose(scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
                chosen = serves if scope["path"].startswith("/-/") else app
                await chosen(scope, receive, send)

            self.app = choose

    uvicorn.config.HTTP_PROTOCOLS["auto"] = Behind  # type: ignore[assignment]
