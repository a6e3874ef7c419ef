"""The process in which a candidate answers rows unseen: it reads rows from a file, runs the graph
and writes the answers to a file. It has the lowest priority and a limit on its memory, and ends
with its parent.

Orders and replies are lines of JSON on standard input and output: first {"folder", "options",
"memory_bytes"}, answered by {"ready"} or {"refused"}; then {"rows", "answers"}, two paths, answered
by {"answered": rows, "rows_per_s", "request_s", "memory_bytes"}.
"""

import ctypes
import json
import os
import resource
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from driftloop_contracts.errors import DriftloopError
from driftloop_contracts.signature import Signature
from driftloop_onnx import BackendOptions, Loaded, load
from driftloop_onnx.first_load import limit_memory
from driftloop_rollout.shadow_rows import FAILED, answers_of, inputs_of
from driftloop_settings.niceness import give_way

RUN_ROWS = 512
LOWEST = 19
TIMED_REQUESTS = 20
"""Requests of each order that are also run alone, for their time."""
_DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG


def main() -> None:
    """Run in the child process until standard input ends."""
    replies = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(
        sys.stderr.fileno(), sys.stdout.fileno()
    )  # keep the output of libraries out of the replies

    def reply(**what: Any) -> None:
        replies.write(json.dumps(what) + "\n")
        replies.flush()

    _behind_everything()
    order = json.loads(sys.stdin.readline())
    given = order["options"]
    options = BackendOptions(**{**given, "providers": tuple(given["providers"])})
    limit_memory(order["memory_bytes"], options)
    try:
        loaded = load(order["folder"], options)
    except (DriftloopError, MemoryError) as error:
        reply(refused=str(error) or "not enough memory")
        return
    # Loading takes a second or two; on a busy machine it would take minutes from here on.
    with suppress(OSError, AttributeError):
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    reply(ready=True)
    for line in sys.stdin:
        order = json.loads(line)
        reply(**_answer(loaded, Path(order["rows"]), Path(order["answers"])))


def _behind_everything() -> None:
    """Give way to every other process of the machine, and be the first to go if memory is short."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGKILL)
    give_way(LOWEST)
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")


def _answer(loaded: Loaded, rows: Path, answers: Path) -> dict[str, Any]:
    with pa.memory_map(str(rows)) as source:
        table = pa.ipc.open_file(source).read_all()
    began, done, failed = time.monotonic(), [], np.zeros(table.num_rows, bool)
    ends = _ends(table, RUN_ROWS if loaded.why_not_batched is None else 1)
    for first, last in ends:
        part = table.slice(first, last - first)
        try:
            done.append(_run(loaded, part))
        except Exception:  # the errors of onnxruntime have no public base class
            for start, end in _ends(part, 1):
                try:
                    done.append(_run(loaded, part.slice(start, end - start)))
                except Exception:
                    failed[first + start : first + end] = True
                    done.append(_nothing(loaded.model.signature, end - start))
    seconds = max(time.monotonic() - began, 1e-9)
    found = pa.concat_tables(done) if done else _nothing(loaded.model.signature, 0)
    found = found.append_column(FAILED, pa.array(failed))
    with pa.OSFile(str(answers), "wb") as sink, pa.ipc.new_file(sink, found.schema) as writer:
        writer.write_table(found)
    return {
        "answered": table.num_rows,
        "rows_per_s": table.num_rows / seconds,
        "request_s": _request_s(loaded, table),
        "memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }


def _ends(table: pa.Table, least_rows: int) -> list[tuple[int, int]]:
    """Parts [first, last) of whole requests, of `least_rows` rows or the last one."""
    ids = table["prediction_id"].to_pylist()
    found, first = [], 0
    for i in range(1, len(ids) + 1):
        if i == len(ids) or (ids[i] != ids[i - 1] and i - first >= least_rows):
            found.append((first, i))
            first = i
    return found


def _run(loaded: Loaded, part: pa.Table) -> pa.Table:
    signature = loaded.model.signature
    return answers_of(loaded.model.run(inputs_of(part, signature)), signature, part.num_rows)


def _nothing(signature: Signature, rows: int) -> pa.Table:
    return answers_of(None, signature, rows)


def _request_s(loaded: Loaded, table: pa.Table) -> float | None:
    """The median seconds of a request that runs alone; None if none can be run."""
    seconds = []
    for first, last in _ends(table, 1)[:TIMED_REQUESTS]:
        inputs = inputs_of(table.slice(first, last - first), loaded.model.signature)
        began = time.perf_counter()
        with suppress(Exception):
            loaded.model.run(inputs)
            seconds.append(time.perf_counter() - began)
    return float(np.median(seconds)) if seconds else None
