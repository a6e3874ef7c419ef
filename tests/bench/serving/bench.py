"""The plan: which loads each subject takes, and how a round of them is measured."""

import contextlib
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnxruntime as ort
from load import SERVER_CORE, Sample, build_open_loop, closed_loop, open_loop, pinned
from process import settle
from results import CONNECTIONS, OPEN_CONNECTIONS, Cell, Record, Results
from subjects import CAPTURED, HERE, UNCAPTURED, Endpoint, Place, Skipped, Subject
from traffic import DISTINCT, arrays, mixed_rows, v2_binary, write_requests

BATCHES = (1, 32, 256)
SHARES = (0.5, 0.8)
BASIC = tuple(Cell("json-1", connections) for connections in CONNECTIONS)
JSON = (
    *(Cell("json-1", OPEN_CONNECTIONS, share) for share in SHARES),
    Cell("json-32", 16), Cell("json-256", 16), Cell("json-mixed", 16),
)  # fmt: skip
BINARY = (*(Cell(f"binary-{rows}", 16) for rows in BATCHES), Cell("binary-mixed", 16))
PLAN = {"basic": BASIC, "json": BASIC + JSON, "all": BASIC + JSON + BINARY}


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


class Bench:
    """One run; what it finds goes into `results`. `seconds`: of each measurement."""

    def __init__(self, place: Place, results: Results, seconds: float, *, quick: bool) -> None:
        self._place, self._results, self._seconds = place, results, seconds
        self._settle_s, self._turns = (1.0, 3) if quick else (5.0, 12)
        self._open_loop = build_open_loop(place.scratch)
        session = ort.InferenceSession(str(place.graph), providers=["CPUExecutionProvider"])
        self._expected: Callable[[np.ndarray], np.ndarray] = lambda rows: session.run(
            ["probabilities"], {"x": rows}
        )[0]

    def in_process(self) -> None:
        script = str(HERE / "servers" / "in_process.py")
        words = [str(self._place.graph), str(self._seconds), *map(str, BATCHES)]
        argv = pinned([sys.executable, script, *words], SERVER_CORE)
        out = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
        for batch, rate in json.loads(out).items():
            self._results.in_process.setdefault(batch, []).append(rate)

    def subject(self, subject: Subject, number: int) -> None:
        """Round `number` of one subject."""
        if subject.kind == "peer" and subject.name in self._results.skipped:
            return
        with self._or_skip(subject, number), subject.start(self._place) as endpoint:
            self._begin(subject, endpoint)
            for cell in PLAN[subject.cells]:
                self._cell(subject, endpoint, cell, number)
            lost = self._results.lost
            lost[subject.name] = lost.get(subject.name, 0) + endpoint.lost()

    def capture(self, number: int) -> None:
        """Round `number` of capture on and off, by turns of a second in one process: what it costs
        is less than what a shared machine changes in a minute, and than what two processes of one
        program differ in."""
        pair = ((CAPTURED, signal.SIGUSR1), (UNCAPTURED, signal.SIGUSR2))
        with self._or_skip(CAPTURED, number), CAPTURED.start(self._place) as endpoint:
            self._begin(CAPTURED, endpoint)
            for cell in BASIC:
                for turn in range(self._turns):
                    for subject, switch in pair[:: 1 if turn % 2 else -1]:
                        endpoint.signal(switch)
                        self._cell(subject, endpoint, cell, number * self._turns + turn, 1.0)

    @contextlib.contextmanager
    def _or_skip(self, subject: Subject, number: int) -> Iterator[None]:
        """A subject that fails is left out of the round, a peer of all that follow, with the
        reason."""
        begun = time.monotonic()
        try:
            yield
        except (Skipped, RuntimeError, OSError, subprocess.SubprocessError) as error:
            self._results.skipped[subject.name] = str(error).strip()
            say(f"{subject.name} is skipped: {error}")
        else:
            say(f"round {number + 1}: {subject.name}, {time.monotonic() - begun:.0f} s")

    def _begin(self, subject: Subject, endpoint: Endpoint) -> None:
        subject.check(endpoint.port, self._expected)
        closed_loop(endpoint.port, self._requests(subject, "json-1"), 16, 1)  # warm

    def _cell(
        self,
        subject: Subject,
        endpoint: Endpoint,
        cell: Cell,
        number: int,
        seconds: float | None = None,
    ) -> None:
        """`seconds`: of a closed loop, where it is not the run's."""
        if subject.kind == "driftloop":
            settle(self._settle_s)  # Kafka and the lake catch up
        serving, other = endpoint.serving_cpu(), endpoint.other_cpu()
        sample = self._load(subject, endpoint, cell, seconds or self._seconds)
        each_us = 1e6 / max(1, sample.requests)
        serving_us = (endpoint.serving_cpu() - serving) * each_us
        other_us = (endpoint.other_cpu() - other) * each_us
        if not sample.requests or sample.failed or sample.broken:
            say(f"{subject.name} at {cell}: {sample}")
        record = Record(
            subject.name,
            cell,
            number,
            sample.rate,
            sample.p50_us,
            sample.p99_us,
            sample.p999_us,
            serving_us,
            other_us,
            sample.failed,
            sample.broken,
        )
        self._results.records.append(record)

    def _load(self, subject: Subject, endpoint: Endpoint, cell: Cell, seconds: float) -> Sample:
        requests, port = self._requests(subject, cell.traffic), endpoint.port
        if cell.share is None:
            return closed_loop(port, requests, cell.connections, seconds)
        capacity = self._results.of(subject.name, Cell("json-1", CONNECTIONS[-1]))[-1].rate
        rate = capacity * cell.share
        return open_loop(self._open_loop, port, requests, cell.connections, rate, seconds * 2)

    def _requests(self, subject: Subject, traffic: str) -> Path:
        form, _, rows = traffic.partition("-")
        write = v2_binary if form == "binary" else subject.write
        path = self._place.scratch / f"{subject.name}-{traffic}"
        if not path.is_file():
            numbers = mixed_rows() if rows == "mixed" else [int(rows)] * DISTINCT
            write_requests(path, map(write, arrays(numbers)))
        return path
