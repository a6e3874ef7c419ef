"""What answers cost while a candidate is in the shadow: `run.py --shadow`, about four minutes.

A stack of ingress `direct` serves a model, and a second version answers all rows in the shadow, in
the priority that the product gives it and on any core. By turns, the shadow's process and the role
that feeds it are stopped and go on (SIGSTOP, SIGCONT), so that both kinds of turns meet the same
machine: one at 16 connections for the rate, one at half of the capacity for the tail.
"""

import json
import os
import signal
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import psutil
import yaml
from bench import say
from load import build_open_loop, closed_loop, open_loop
from process import family, settle
from stack import PORTS, arrange, driftloop
from traffic import DISTINCT, arrays, v2_json, write_requests

SETTINGS = ("serving.ingress=direct", "rollout.shadow_s=3600")
CONNECTIONS = 16
WAIT_S = 90.0


def shadow_cost(graph: Path, turns: int, seconds: float) -> str:
    """Return the two tables. turns: of each kind, on and off."""
    words = [word for item in (*PORTS, *SETTINGS) for word in ("--set", item)]
    with tempfile.TemporaryDirectory(prefix="dls-") as scratch:
        state, requests = Path(scratch) / "state", Path(scratch) / "requests"
        write_requests(requests, [v2_json(x) for x in arrays([1] * DISTINCT)])
        program = build_open_loop(Path(scratch))
        try:
            up = driftloop(state, "up", "--detach", "--timeout-s", "220", *words)
            driftloop(state, "deploy", str(_spec(graph, Path(scratch) / "v1")))
            port = int(up["endpoints"]["inference"].rpartition(":")[2])
            settle(20)
            arrange(family(up["pid"]), "direct")
            role = next(
                r["pid"] for r in driftloop(state, "status")["roles"] if "rollout" in r["name"]
            )
            _as_it_is(role)
            closed_loop(port, requests, CONNECTIONS, 2)  # the champion's past
            time.sleep(5)  # it reaches the lake
            driftloop(state, "deploy", str(_spec(graph, Path(scratch) / "v2")))
            _wait_for_answers(state, lambda: closed_loop(port, requests, 1, 1))
            shadow = lambda: family(role)  # noqa: E731
            return _compared(state, shadow, port, requests, program, turns, seconds)
        finally:
            driftloop(state, "down")


def _spec(graph: Path, folder: Path) -> Path:
    """The file of a model whose bytes differ from another folder's."""
    folder.mkdir()
    model = onnx.load(str(graph))
    model.doc_string = folder.name
    onnx.save(model, str(folder / "model.onnx"))
    spec = {"name": "m", "model": "model.onnx", "task": "classification", "output": "label"}
    (file := folder / "m.yaml").write_text(yaml.safe_dump(spec))
    return file


def _as_it_is(role: int) -> None:
    """On all cores, with the priority that it has in a stack; so is what it starts."""
    for thread in psutil.Process(role).threads():
        os.sched_setscheduler(thread.id, os.SCHED_OTHER, os.sched_param(0))
        os.sched_setaffinity(thread.id, range(os.cpu_count() or 1))


def _rollout(state: Path) -> dict[str, Any]:
    found: dict[str, Any] = driftloop(state, "status")["rollouts"][0]
    return found


def _answered(state: Path) -> int:
    rollout = _rollout(state)
    if rollout["state"] not in ("pending", "shadow"):
        raise RuntimeError(f"the candidate is not in the shadow: {json.dumps(rollout)[:800]}")
    return int((rollout.get("shadow") or {}).get("answered", 0))


def _wait_for_answers(state: Path, ask: Callable[[], object]) -> None:
    """A candidate of unknown training data only answers rows that come after it."""
    deadline = time.monotonic() + WAIT_S
    while not _answered(state):
        if time.monotonic() > deadline:
            raise RuntimeError(f"the candidate answers nothing: {_rollout(state)['reason']}")
        ask()
        time.sleep(1)


def _compared(
    state: Path,
    shadow: Callable[[], list[psutil.Process]],
    port: int,
    requests: Path,
    program: Path,
    turns: int,
    seconds: float,
) -> str:
    rates: dict[bool, list[float]] = {True: [], False: []}
    tails: dict[bool, list[float]] = {True: [], False: []}
    half = closed_loop(port, requests, 64, seconds).rate / 2
    before, cpu = _answered(state), 0.0
    for turn in range(turns):
        for on in (True, False) if turn % 2 else (False, True):
            for process in shadow():
                process.send_signal(signal.SIGCONT if on else signal.SIGSTOP)
            time.sleep(0.5)
            spent = _cpu(shadow())
            rates[on].append(closed_loop(port, requests, CONNECTIONS, seconds).rate)
            tails[on].append(open_loop(program, port, requests, CONNECTIONS, half, seconds).p99_us)
            cpu += (_cpu(shadow()) - spent) if on else 0.0
        say(f"turn {turn + 1} of {turns}")
    for process in shadow():
        process.send_signal(signal.SIGCONT)
    falls = [1 - on / off for on, off in zip(rates[True], rates[False], strict=True)]
    rises = [(on - off) / 1e3 for on, off in zip(tails[True], tails[False], strict=True)]
    rows = _answered(state) - before
    return "\n".join(
        [
            f"the shadow answered {rows:,} rows in the meantime and took {cpu:.1f} s of CPU in "
            f"{2 * turns * seconds:.0f} s of its turns",
            "| | shadow off | shadow on | difference (95 %) | wanted |",
            "|---|---|---|---|---|",
            f"| c = {CONNECTIONS}: requests a second | {statistics.median(rates[False]):,.0f} | "
            f"{statistics.median(rates[True]):,.0f} | {_range(falls, 100)} % fewer | < 5 % |",
            f"| half of the capacity ({half:,.0f} a second): p99, ms | "
            f"{statistics.median(tails[False]) / 1e3:.2f} | "
            f"{statistics.median(tails[True]) / 1e3:.2f} | {_range(rises, 1)} ms | < 1 ms |",
        ]
    )


def _cpu(processes: list[psutil.Process]) -> float:
    return sum(t.user + t.system for t in (p.cpu_times() for p in processes))


def _range(values: list[float], factor: float) -> str:
    """The median, and its interval by resampling."""
    rng = np.random.default_rng(0)
    drawn = np.median(rng.choice(values, (2_000, len(values))), axis=1)
    low, high = np.quantile(drawn, [0.025, 0.975]) * factor
    return f"{np.median(values) * factor:+.2f} ({low:+.2f} to {high:+.2f})"
