"""The control API of a running stack, as the command line uses it.

With Python's own client: it asks no proxy, and importing another takes longer than a short command.
"""

import http
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO
from urllib.parse import urlencode, urlsplit

from driftloop_contracts.errors import NotFound, Rejected, RetryLater, Unavailable
from driftloop_settings.run_state import read_run_state
from driftloop_settings.state_path import CONTROL_URL

if TYPE_CHECKING:
    from http.client import HTTPConnection

PIECE_BYTES = 1 << 20
TIMEOUT_S, UPLOAD_TIMEOUT_S = 60.0, 1800.0
JSON = "application/json"
Body = Callable[[], bytes | Iterator[bytes]]


class ControlClient:
    """Sends calls; returns parsed JSON, and raises driftloop's errors with the server's message.

    While the gateway restarts, calls are retried for at most `patience_s` seconds.
    """

    def __init__(
        self, state_dir: Path, patience_s: float = 20.0, environ: Mapping[str, str] = os.environ
    ) -> None:
        """The stack is the one of DRIFTLOOP_CONTROL_URL, if that is set, and otherwise the one
        that runs under the state directory."""
        self._encrypted, self._address = _elsewhere(environ.get(CONTROL_URL)) or _here(state_dir)
        self._patience_s = patience_s

    def get(self, path: str, **params: Any) -> Any:
        return self._call("GET", path, params)

    def post(self, path: str, body: Any = None) -> Any:
        content = b"" if body is None else json.dumps(body).encode()
        return self._call("POST", path, {}, lambda: content)

    def delete(self, path: str, **params: Any) -> Any:
        return self._call("DELETE", path, params)

    def put_archive(self, path: str, archive: BinaryIO, **params: Any) -> Any:
        """Send a file from its start. Large files take time."""

        def pieces() -> Iterator[bytes]:
            archive.seek(0)
            while piece := archive.read(PIECE_BYTES):
                yield piece

        return self._call("POST", path, params, pieces, "application/x-tar", UPLOAD_TIMEOUT_S)

    def _call(
        self,
        method: str,
        path: str,
        params: Mapping[str, Any],
        body: Body = bytes,
        kind: str = JSON,
        timeout_s: float = TIMEOUT_S,
    ) -> Any:
        from http.client import HTTPConnection, HTTPSConnection  # `--help` needs none

        kind_of_connection = HTTPSConnection if self._encrypted else HTTPConnection
        url = f"{path}?{urlencode(params)}" if params else path
        deadline = time.monotonic() + self._patience_s
        while True:
            connection = kind_of_connection(self._address, timeout=timeout_s)
            try:
                connection.connect()
            except OSError:
                if time.monotonic() > deadline:
                    raise Unavailable(
                        f"the stack's control API does not answer at {self._address}"
                    ) from None
                time.sleep(0.2)
                continue
            with closing(connection):
                return _answered(connection, method, url, body(), kind)


def _here(state_dir: Path) -> tuple[bool, str]:
    """Raises Unavailable."""
    running = read_run_state(state_dir)
    if running is None or not running.supervisor.alive():
        raise Unavailable(
            f"no stack is running under {state_dir}; start one with `driftloop up`, or name the "
            f"control API of another machine in {CONTROL_URL}"
        )
    return False, running.endpoints["control"].removeprefix("http://")


def _elsewhere(url: str | None) -> tuple[bool, str] | None:
    """Return whether to encrypt, and the address; None if no other machine is named. Raises
    Rejected."""
    if not url:
        return None
    try:
        parts = urlsplit(url)
        known = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        known = False
    if not known or parts.path.strip("/") or parts.query or "@" in parts.netloc:
        raise Rejected(
            f"{CONTROL_URL}={url!r} is not the address of a control API, such as "
            "http://gateway.example:8001"
        )
    return parts.scheme == "https", parts.netloc


def _answered(
    connection: "HTTPConnection",
    method: str,
    url: str,
    body: bytes | Iterator[bytes],
    kind: str,
) -> Any:
    from http.client import HTTPException

    try:
        with suppress(BrokenPipeError, ConnectionResetError):  # answered before all was read
            connection.request(method, url, body, {"content-type": kind})
        response = connection.getresponse()
        content = response.read()
    except (OSError, HTTPException) as error:
        what = str(error) or type(error).__name__
        raise Unavailable(f"the stack's control API did not answer: {what}") from None
    if response.status < http.HTTPStatus.BAD_REQUEST:
        return json.loads(content)
    try:
        message = json.loads(content)["error"]
    except (ValueError, KeyError, TypeError):
        message = f"the control API answered {response.status}"
    if response.status == http.HTTPStatus.NOT_FOUND:
        raise NotFound(message)
    if response.status == http.HTTPStatus.SERVICE_UNAVAILABLE:
        raise RetryLater(message)
    raise Rejected(message)
