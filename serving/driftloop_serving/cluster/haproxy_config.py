"""Rewrites the HAProxy configuration of Serve for a machine that others share.

Serve 2.60 renders a fixed template in which statistics listen on fixed ports of all interfaces,
every request is logged to a syslog port, any local user has admin access, errors are plain text,
and a client may take unlimited time to send its headers. None of this can be configured, but the
HAProxy program can (RAY_SERVE_HAPROXY_BINARY_PATH): `write_launcher` creates a program that
rewrites the configuration in place and then executes HAProxy. HAProxy does not bind the port
either; it listens on the socket of the port's owner. (HAProxy 2.8 returns its own error page for
requests that it cannot parse.)

The launcher runs this file at every reload without any installed package, so it may import only the
standard library and modules that do the same.
"""

import json
import os
import re
import shlex
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

from driftloop_serving.ports.handover import take

PORT = "serving.port"
HEADERS_TIMEOUT_S = 15
HEADERS_LIMIT = 16_384
HEAD_BYTES = 96 << 10
"""HAProxy answers requests above these limits with its own page. The replica's limits are lower,
and its answer gives the reason."""
ERRORS: Mapping[int, tuple[str, str]] = {
    400: ("Bad Request", "malformed HTTP request"),
    408: ("Request Timeout", "the request did not arrive in time"),
    413: ("Content Too Large", "the request is too large"),
    500: ("Internal Server Error", "the proxy in front of the replicas failed; try again"),
    502: ("Bad Gateway", "the replica ended before its answer was complete"),
    503: ("Service Unavailable", "no replica can answer now; try again"),
    504: ("Gateway Timeout", "the replica did not answer in time"),
}

_SECTION = re.compile(r"^(?=(?:global|defaults|frontend|backend|listen)\b)", re.MULTILINE)
_UNWANTED_SECTIONS = ("listen stats", "frontend prometheus")
_UNWANTED_LINES = (
    "log ", "option httplog", "option log-health-checks", "http-request set-log-level",
    "errorfile ",
)  # fmt: skip
_NO_APPLICATION = "backend default_backend"
_FRONTEND = "frontend http_frontend"
_BIND = re.compile(r"^(\s*bind )\S+")


def rewrite(config: str, pages: Path, listener: int | None = None) -> str:
    """Rewrite a configuration written by Serve or by this function.

    pages: the folder of `write_pages`. listener: the descriptor of the listening socket; None to
    let HAProxy bind the port. Raises ValueError if the template is not the known one.
    """
    sections = [section for section in _SECTION.split(config) if section.strip()]
    found = {section.split("\n", 1)[0].strip() for section in sections}
    if not {"global", "defaults", _FRONTEND, _NO_APPLICATION} <= found:
        raise ValueError("this is not the HAProxy configuration that Ray Serve 2.60 writes")
    return "".join(
        _rewritten(section, pages, listener)
        for section in sections
        if not section.startswith(_UNWANTED_SECTIONS)
    )


def _rewritten(section: str, pages: Path, listener: int | None) -> str:
    title, *lines = section.splitlines()
    if title == _NO_APPLICATION:
        # Serve answers 404, which would mean that no such model exists; it is just not known yet.
        return f"{title}\n    http-request deny deny_status 503\n"
    lines = [line for line in lines if not line.strip().startswith(_UNWANTED_LINES)]
    if title == _FRONTEND and listener is not None:
        lines = [_BIND.sub(rf"\1fd@{listener}", line) for line in lines]
    if title == "global":
        lines = [
            line.replace("mode 666 level admin", "mode 600 level admin")
            for line in lines
            if "tune.http.maxhdr" not in line and "tune.bufsize" not in line
        ]
        lines += [f"    tune.http.maxhdr {HEADERS_LIMIT}", f"    tune.bufsize {HEAD_BYTES}"]
    if title == "defaults":
        lines = [line for line in lines if "timeout http-request" not in line]
        lines.append(f"    timeout http-request {HEADERS_TIMEOUT_S}s")
        lines += [f"    errorfile {status} {pages / f'{status}.http'}" for status in ERRORS]
    return "\n".join([title, *lines]) + "\n"


def write_pages(pages: Path) -> None:
    """Write HAProxy's own error answers in the protocol's format."""
    pages.mkdir(parents=True, exist_ok=True)
    for status, (reason, sentence) in ERRORS.items():
        body = json.dumps({"error": sentence}, separators=(",", ":"))
        head = [
            f"HTTP/1.1 {status} {reason}",
            "Content-Type: application/json",
            f"Content-Length: {len(body)}",
            *(["Retry-After: 1"] if status == 503 else []),
        ]
        (pages / f"{status}.http").write_bytes("\r\n".join([*head, "", body]).encode())


def write_launcher(folder: Path, binary: str, owner: Path) -> Path:
    """Create the program for RAY_SERVE_HAPROXY_BINARY_PATH and return its path. `binary`: the real
    HAProxy; `owner`: the Unix socket of the port's owner, if there is one."""
    pages = folder / "pages"
    write_pages(pages)
    # -I -S: skip site-packages, whose search would take longer than HAProxy's own start.
    words = shlex.join(
        [sys.executable, "-I", "-S", "-c", _START, str(_ROOT), str(owner), str(pages), binary]
    )
    launcher = folder / "launch"
    launcher.write_text(f'#!/bin/sh\nexec {words} "$@"\n')
    launcher.chmod(0o700)
    return launcher


_ROOT = Path(__file__).absolute().parents[2]
_START = (
    "import sys; sys.path.append(sys.argv.pop(1));"
    "from driftloop_serving.cluster.haproxy_config import main; main(sys.argv[1:])"
)


def _listener(owner: Path) -> int | None:
    """Return the descriptor of the listening socket, which HAProxy inherits; None without an
    owner."""
    try:
        found = take(owner, PORT)
    except (FileNotFoundError, ConnectionRefusedError):
        return None
    found.set_inheritable(True)
    return found.detach()


def main(arguments: Iterable[str]) -> None:
    owner, pages, *command = arguments
    config = Path(command[command.index("-f") + 1])
    scratch = config.with_suffix(".ours")
    scratch.write_text(rewrite(config.read_text(), Path(pages), _listener(Path(owner))))
    scratch.replace(config)
    os.execv(command[0], command)
