"""Runs a candidate in a process of its own (`shadow_child`), without ever waiting for it."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
from numpy.typing import NDArray

from driftloop_artifacts import IN_PLACE, Files
from driftloop_contracts.errors import DriftloopError
from driftloop_contracts.events import INPUT_PREFIX
from driftloop_contracts.model import ServedVersion
from driftloop_onnx import BackendOptions
from driftloop_onnx.first_load import BASE_BYTES, COPIES
from driftloop_rollout.units import Floats


class ShadowRefused(DriftloopError):
    """The graph cannot be loaded here."""


class ShadowDied(DriftloopError):
    """The process ended, or was ended because it exceeded a limit."""


@dataclass(frozen=True, slots=True)
class Limits:
    """cpu_s, wall_s: the most seconds for an order; it has the lowest priority, so that a busy
    machine takes it much longer than its own work. memory_bytes: in addition to what the process
    has before the graph is loaded; None: in proportion to the graph."""

    cpu_s: float = 60.0
    wall_s: float = 300.0
    memory_bytes: int | None = None

    def memory_for(self, path: Path) -> int:
        if self.memory_bytes is not None:
            return self.memory_bytes
        files = [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file()]
        return BASE_BYTES + COPIES * sum(file.stat().st_size for file in files)


@dataclass(frozen=True, slots=True)
class Answered:
    """answers: a row for each row asked, `out_…` and `failed`. request_s: the median seconds of a
    request alone. kept: whether each row asked has an answer, None: all have; the others were
    dropped. losses: of the candidate and the champion by metric, [rows kept], if they need no
    label. problem: why losses are missing. cpu_s: what it took of this machine."""

    answers: pa.Table
    rows_per_s: float
    request_s: float | None
    memory_bytes: int
    kept: NDArray[np.bool_] | None = None
    losses: Mapping[str, tuple[Floats, Floats]] = field(default_factory=dict)
    problem: str = ""
    cpu_s: float = 0.0


class ShadowProcess:
    """One order at a time: `ask`, then `answered` until it is not None. Not thread-safe."""

    def __init__(
        self,
        version: ServedVersion,
        options: BackendOptions,
        limits: Limits | None = None,
        files: Files = IN_PLACE.use,
    ) -> None:
        self._limits = limits or Limits()
        self._held = ExitStack()
        path = self._held.enter_context(files(version.path))
        self._memory = self._limits.memory_for(path)
        self._scratch = Path(tempfile.mkdtemp(prefix="driftloop-shadow-"))
        self._child = subprocess.Popen(
            [sys.executable, "-P", "-c", "from driftloop_rollout.shadow_child import main; main()"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # the scheduler weighs sessions first
            env={**os.environ, "MALLOC_ARENA_MAX": "2", "ARROW_DEFAULT_MEMORY_POOL": "system"},
        )
        assert self._child.stdout is not None
        os.set_blocking(self._child.stdout.fileno(), False)
        self._read = b""
        self._ready = False
        self._asked = False
        self._order({"folder": str(path), "options": asdict(options), "memory_bytes": self._memory})

    @property
    def pid(self) -> int:
        return self._child.pid

    @property
    def idle(self) -> bool:
        """Whether it can be asked. Raises ShadowRefused or ShadowDied."""
        if not self._ready and (reply := self._reply()) is not None:
            if "refused" in reply:
                raise ShadowRefused(reply["refused"])
            self._ready = True
        return self._ready and not self._asked

    def ask(self, rows: pa.Table) -> None:
        """rows: with `prediction_id` and `in_…`."""
        assert self.idle
        names = [n for n in rows.column_names if n.startswith(INPUT_PREFIX)]
        rows = rows.select(["prediction_id", *names]).combine_chunks()
        with pa.OSFile(str(self._rows), "wb") as sink, pa.ipc.new_file(sink, rows.schema) as writer:
            writer.write_table(rows)
        self._asked = True
        self._order({"rows": str(self._rows), "answers": str(self._answers)})

    def answered(self) -> Answered | None:
        """The answers to what was asked, once they are there. Raises ShadowDied."""
        reply = self._reply() if self._asked else None
        if reply is None:
            return None
        self._asked = False
        with pa.OSFile(str(self._answers)) as source:
            answers = pa.ipc.open_file(source).read_all()
        cpu_s = self._cpu_s() - self._cpu_before
        return Answered(
            answers, reply["rows_per_s"], reply["request_s"], reply["memory_bytes"], cpu_s=cpu_s
        )

    def close(self) -> None:
        self._child.kill()
        self._child.wait()
        for pipe in (self._child.stdin, self._child.stdout):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()
        shutil.rmtree(self._scratch, ignore_errors=True)
        self._held.close()

    @property
    def _rows(self) -> Path:
        return self._scratch / "rows.arrow"

    @property
    def _answers(self) -> Path:
        return self._scratch / "answers.arrow"

    def _order(self, what: dict[str, Any]) -> None:
        assert self._child.stdin is not None
        self._began, self._cpu_before = time.monotonic(), self._cpu_s()
        with suppress(BrokenPipeError):  # it has ended: the next reply says so
            self._child.stdin.write(json.dumps(what).encode() + b"\n")
            self._child.stdin.flush()

    def _reply(self) -> dict[str, Any] | None:
        assert self._child.stdout is not None
        ended = self._child.poll()
        with suppress(BlockingIOError):
            self._read += os.read(self._child.stdout.fileno(), 1 << 16)
        line, newline, rest = self._read.partition(b"\n")
        if newline:
            self._read = rest
            found: dict[str, Any] = json.loads(line)
            return found
        if ended is not None:
            raise ShadowDied(self._why(ended))
        cpu, wall = self._cpu_s() - self._cpu_before, time.monotonic() - self._began
        if cpu > self._limits.cpu_s or wall > self._limits.wall_s:
            raise ShadowDied(f"it did not answer within {cpu:.0f} s of computing, {wall:.0f} s all")
        return None

    def _why(self, ended: int) -> str:
        name = signal.Signals(-ended).name if ended < 0 else f"status {ended}"
        return (
            f"its process ended ({name}): the graph crashes, or needs more than "
            f"{self._memory >> 20:,} MiB of memory"
        )

    def _cpu_s(self) -> float:
        try:
            times = psutil.Process(self._child.pid).cpu_times()
        except psutil.Error:
            return 0.0
        return float(times.user + times.system)
