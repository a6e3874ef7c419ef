"""Loads an uploaded graph for the first time in a separate process with limits on time and memory,
because a graph can crash ONNX Runtime or exhaust the memory."""

import json
import os
import resource
import signal
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from driftloop_contracts.errors import DriftloopError, Rejected
from driftloop_contracts.signature import Signature
from driftloop_onnx.made_up import made_up
from driftloop_onnx.model import OnnxModel
from driftloop_onnx.options import BackendOptions

BASE_BYTES = 2 << 30
"""Memory for a graph's tensors in addition to its weights, in bytes."""
COPIES = 4
"""How many copies of the weights may be in memory while a session is created."""
_NO_MEMORY = ("bad_alloc", "allocate memory", "bad allocation", "Cannot allocate")
_PAGE_COUNTS = Path("/proc/self/statm")


def first_load(
    folder: Path,
    options: BackendOptions | None = None,
    *,
    timeout_s: float = 300.0,
    memory_bytes: int | None = None,
) -> Signature:
    """Load the graph in a folder and run it once in a child process; return its signature.

    memory_bytes: None sets a limit in proportion to the size of the files. Raises Rejected if the
    graph fails to load, crashes, or exceeds the time or memory limit.
    """
    limit = memory_bytes or BASE_BYTES + COPIES * _size(folder)
    order = {
        "folder": str(folder),
        "options": asdict(options or BackendOptions()),
        "memory_bytes": limit,
    }
    try:
        child = subprocess.run(
            [sys.executable, "-P", "-c", "from driftloop_onnx.first_load import main; main()"],
            input=json.dumps(order).encode(),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "MALLOC_ARENA_MAX": "2"},  # each arena reserves address space
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise Rejected(
            f"the model was not loaded within {timeout_s:g} seconds (serving.load_timeout_s)"
        ) from None
    return signature_from(child.returncode, child.stdout, limit)


def signature_from(returncode: int, written: bytes, limit: int) -> Signature:
    """What a child found, by how it ended and what it wrote. Raises as `first_load`."""
    if returncode < 0:
        name = signal.Signals(-returncode).name
        raise Rejected(
            f"the model crashes ONNX Runtime while it is loaded or run ({name}), or needs "
            f"more than {limit >> 20:,} MiB of memory (serving.load_memory_bytes)"
        )
    try:
        answer = json.loads(written)
    except ValueError:
        raise Rejected(f"the model ended the process that loads it ({returncode})") from None
    if "rejected" in answer:
        raise Rejected(answer["rejected"])
    return Signature.from_dict(answer["signature"])


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def limit_memory(more_bytes: int, options: BackendOptions) -> None:
    """Limit the memory of this process to `more_bytes` beyond what is mapped now. CUDA maps more
    address space than the machine has memory, so only graphs for the CPU are limited."""
    if options.providers == ("cpu",) and _PAGE_COUNTS.exists():
        mapped = int(_PAGE_COUNTS.read_text().split()[0]) * resource.getpagesize()
        limit = mapped + more_bytes
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def _answer(order: dict[str, Any]) -> dict[str, Any]:
    given: dict[str, Any] = order["options"]
    options = BackendOptions(**{**given, "providers": tuple(given["providers"])})
    limit: int = order["memory_bytes"]
    limit_memory(limit, options)
    try:
        model = OnnxModel(order["folder"], options)
    except (DriftloopError, MemoryError) as error:
        return {"rejected": _too_much(error, limit) or str(error)}
    try:
        model.run(made_up(model.signature, 1))
    except Exception as error:  # other inputs may work, but running out of memory is an error
        if refused := _too_much(error, limit):
            return {"rejected": refused}
    return {"signature": model.signature.to_dict()}


def _too_much(error: Exception, limit: int) -> str | None:
    is_memory = isinstance(error, MemoryError) or any(sign in str(error) for sign in _NO_MEMORY)
    if not is_memory:
        return None
    return (
        f"the model needs more than {limit >> 20:,} MiB of memory to be loaded and run once "
        "(serving.load_memory_bytes)"
    )


def main() -> None:
    """Run in the child process: read the order from standard input, write the answer to standard
    output."""
    out = os.dup(sys.stdout.fileno())
    # keep the output of libraries out of the answer
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    written = json.dumps(_answer(json.load(sys.stdin))).encode()
    with os.fdopen(out, "wb") as file:
        file.write(written)
