"""A program as a server of a test."""

import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx
from command_line import eventually


@contextmanager
def ready_server(
    command: Sequence[str], address: str, log: Path, ready: str = "/-/ready"
) -> Iterator[None]:
    """Run the command while the block runs, which begins when `ready` at the address says so."""
    with log.open("w") as sink:
        process = subprocess.Popen(command, stdout=sink, stderr=sink)
    try:
        eventually(lambda: _is_ready(f"http://{address}{ready}"), bool)
        yield
    finally:
        process.terminate()
        process.wait(30)


def _is_ready(url: str) -> bool:
    try:
        return httpx.get(url).is_success
    except httpx.TransportError:
        return False
