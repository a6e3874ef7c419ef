"""Runs a SELECT that a person wrote in a process of its own, which is ended at its limits.

A query in a process that serves others could take its memory, and DuckDB cannot be interrupted
everywhere. See ADR 54.
"""

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa

from driftloop_contracts.errors import DriftloopError, NotFound, Rejected, RetryLater
from driftloop_lake.views import Version

CHECK_S = 0.05
START_S = 60.0
"""More than the query itself may take: the process imports its libraries first, which on a busy
machine takes long at the lowest priority."""
_ERRORS: dict[str, type[DriftloopError]] = {"NotFound": NotFound, "RetryLater": RetryLater}


@dataclass(frozen=True, slots=True)
class QueryLimits:
    """bytes: of the rows that are returned. disk_mb: for what does not fit in memory. at_once: the
    queries that may run at a time."""

    seconds: float = 30.0
    rows: int = 10_000
    memory_mb: int = 1_024
    bytes: int = 32 << 20
    disk_mb: int = 1_024
    at_once: int = 2


@dataclass(frozen=True, slots=True)
class Answer:
    """rows: the first ones; `more`: whether there are others. version: of the tables."""

    rows: pa.Table
    more: bool
    version: Version
    seconds: float


class BoundedQueries:
    """Thread-safe."""

    def __init__(self, lake: str, limits: QueryLimits) -> None:
        self._lake = lake
        self.limits = limits
        self._free = threading.Semaphore(limits.at_once)

    def ask(self, model: str, sql: str, output: str | None) -> Answer:
        """output: see `open_views`. Raises Rejected for what is not a SELECT, and at a limit;
        NotFound; RetryLater if too many queries run."""
        if not self._free.acquire(blocking=False):
            raise RetryLater(
                f"{self.limits.at_once} queries are running already; try again in some seconds", 5.0
            )
        try:
            return self._run(model, sql, output)
        finally:
            self._free.release()

    def _run(self, model: str, sql: str, output: str | None) -> Answer:
        limits, began = self.limits, time.monotonic()
        with tempfile.TemporaryDirectory(prefix="driftloop-query-") as folder:
            file = Path(folder) / "answer.arrow"
            order = {
                "lake": self._lake, "model": model, "sql": sql, "output": output,
                "seconds": limits.seconds, "rows": limits.rows, "bytes": limits.bytes,
                "memory_mb": limits.memory_mb, "disk_mb": limits.disk_mb, "answer": str(file),
            }  # fmt: skip
            reply = self._reply(order, began)
            if "error" in reply:
                raise _ERRORS.get(reply["error"], Rejected)(reply["sentence"])
            with pa.OSFile(str(file)) as source:
                rows = pa.ipc.open_stream(source).read_all()
        version = Version(reply["predictions"], reply["labels"])
        return Answer(rows, reply["more"], version, time.monotonic() - began)

    def _reply(self, order: dict[str, Any], began: float) -> dict[str, Any]:
        child = subprocess.Popen(
            [sys.executable, "-P", "-c", "from driftloop_lake.query_child import main; main()"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "MALLOC_ARENA_MAX": "2", "ARROW_DEFAULT_MEMORY_POOL": "system"},
        )
        assert child.stdin is not None
        assert child.stdout is not None
        try:
            with child.stdin as pipe:
                pipe.write(json.dumps(order).encode() + b"\n")
            self._watch(child, began)
            line = child.stdout.readline()
        except BrokenPipeError:
            line = b""
        finally:
            child.kill()
            child.wait()
            child.stdout.close()
        if not line:
            raise Rejected("query: its process ended without an answer; ask for less")
        found: dict[str, Any] = json.loads(line)
        return found

    def _watch(self, child: "subprocess.Popen[bytes]", began: float) -> None:
        """Wait for its end. Raises Rejected at a limit."""
        limits = self.limits
        while True:
            try:
                child.wait(CHECK_S)
                return
            except subprocess.TimeoutExpired:
                pass
            if time.monotonic() - began > limits.seconds + START_S:
                raise Rejected(f"the query was stopped after {limits.seconds:g} s")
            if _memory_mb(child.pid) > limits.memory_mb:
                raise Rejected(
                    f"the query was stopped: it used more than {limits.memory_mb:,} MiB of memory"
                )


def _memory_mb(pid: int) -> float:
    try:
        return float(psutil.Process(pid).memory_info().rss) / (1 << 20)
    except psutil.Error:
        return 0.0
