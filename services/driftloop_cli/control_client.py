"""The control API of a running stack, as the command line uses it."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import httpx

from driftloop_contracts.errors import NotFound, Rejected, RetryLater, Unavailable
from driftloop_http.clients import own_client
from driftloop_settings.run_state import read_run_state

PIECE_BYTES = 1 << 20
UPLOAD_TIMEOUT_S = 1800.0


class ControlClient:
    """Sends calls; returns parsed JSON, and raises driftloop's errors with the server's message.

    While the gateway restarts, calls are retried for at most `patience_s` seconds.
    """

    def __init__(self, state_dir: Path, patience_s: float = 20.0) -> None:
        running = read_run_state(state_dir)
        if running is None or not running.supervisor.alive():
            raise Unavailable(
                f"no stack is running under {state_dir}; start one with `driftloop up`"
            )
        self._http = own_client(
            base_url=running.endpoints["control"],
            headers={"content-type": "application/json"},  # of calls without a body too
            timeout=60.0,
        )
        self._patience_s = patience_s

    def get(self, path: str, **params: Any) -> Any:
        return self._call("GET", path, params=params)

    def post(self, path: str, body: Any = None) -> Any:
        return self._call("POST", path, json=body)

    def delete(self, path: str, **params: Any) -> Any:
        return self._call("DELETE", path, params=params)

    def put_archive(self, path: str, archive: BinaryIO, **params: Any) -> Any:
        """Send a file from its start. Large files take time."""

        def pieces() -> Iterator[bytes]:
            archive.seek(0)
            while piece := archive.read(PIECE_BYTES):
                yield piece

        headers = {"content-type": "application/x-tar"}
        return self._call(
            "POST", path, body=pieces, headers=headers, params=params, timeout=UPLOAD_TIMEOUT_S
        )

    def _call(
        self,
        method: str,
        path: str,
        body: Callable[[], Iterator[bytes]] | None = None,
        **arguments: Any,
    ) -> Any:
        deadline = time.monotonic() + self._patience_s
        while True:
            try:
                content = body() if body is not None else None
                response = self._http.request(method, path, content=content, **arguments)
                break
            except httpx.ConnectError:
                if time.monotonic() > deadline:
                    raise Unavailable("the stack's control API does not answer") from None
                time.sleep(0.2)
        if response.status_code < 400:
            return response.json()
        try:
            message = response.json()["error"]
        except (ValueError, KeyError, TypeError):
            message = f"the control API answered {response.status_code}"
        if response.status_code == 404:
            raise NotFound(message)
        if response.status_code == 503:
            raise RetryLater(message)
        raise Rejected(message)
