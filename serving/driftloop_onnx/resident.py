"""How much memory graphs take, each loaded in a process of its own."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from driftloop_onnx.made_up import made_up
from driftloop_onnx.model import OnnxModel

ROWS = 64
"""Of the run after which the memory is read."""
TIMEOUT_S = 120.0
_STATUS = Path("/proc/self/statm")


def resident_bytes(folders: Sequence[Path]) -> list[int | None]:
    """The resident memory that the graph in each folder adds to a process: loaded, and run once
    with ROWS rows. None: it is not known, on a system without /proc, or for a graph that ends the
    process."""
    if not _STATUS.exists():
        return [None] * len(folders)
    try:
        child = subprocess.run(
            [sys.executable, "-P", "-c", "from driftloop_onnx.resident import main; main()"],
            input=json.dumps([str(folder) for folder in folders]).encode(),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=TIMEOUT_S,
            check=False,
        )
        found: list[int | None] = json.loads(child.stdout.splitlines()[-1])
    except (subprocess.TimeoutExpired, ValueError, IndexError):
        return [None] * len(folders)
    return found


def _resident() -> int:
    return int(_STATUS.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _added(folder: str) -> int:
    before = _resident()
    model = OnnxModel(folder)
    with suppress(Exception):  # other inputs may work; it is loaded
        model.run(made_up(model.signature, ROWS))
    return _resident() - before


def _forked(folder: str) -> int | None:
    """In a child, so that what one graph frees is not given to the next one."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(writing, str(_added(folder)).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        said = pipe.read()
    os.waitpid(child, 0)
    return int(said) if said else None


def main() -> None:
    """Run in the child process."""
    import onnxruntime  # noqa: F401  # before the first reading, which must include it

    folders = json.load(sys.stdin)
    print(json.dumps([_forked(folder) for folder in folders]))
