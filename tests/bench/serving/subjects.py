"""Who is measured, and how each is started: baselines, driftloop, and the peers."""

import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from load import SERVER_CORE
from process import Server, cpu_seconds, family, post, wait_for_answer
from traffic import Wire, Writer, arrays, plain_json, v2_json

from driftloop_settings.ports import free_port

HERE = Path(__file__).parent
START_S = 120.0


class Skipped(Exception):
    """A subject that can't be measured here; the message says why."""


@dataclass(frozen=True)
class Place:
    """`scratch`: gone after the run; `environments`: kept for the next one."""

    graph: Path
    scratch: Path
    environments: Path


@dataclass(frozen=True)
class Endpoint:
    """A running subject. `serving_cpu`: CPU seconds so far of what takes part in an answer;
    `other_cpu`: of the rest of its stack; `lost`: answered predictions that capture has dropped;
    `signal` sends its process one."""

    port: int
    serving_cpu: Callable[[], float]
    other_cpu: Callable[[], float] = lambda: 0.0
    lost: Callable[[], int] = lambda: 0
    signal: Callable[[int], None] = lambda number: None


def v2_probabilities(answer: Any) -> Any:
    return next(o["data"] for o in answer["outputs"] if o["name"] == "probabilities")


def plain_probabilities(answer: Any) -> Any:
    return answer["probabilities"]


@dataclass(frozen=True)
class Subject:
    """`cells`: how much of the plan it takes part in; `read`: an answer's probabilities."""

    name: str
    label: str
    kind: Literal["baseline", "driftloop", "alone", "peer"]
    start: Callable[[Place], AbstractContextManager[Endpoint]]
    write: Writer = v2_json
    read: Callable[[Any], Any] = v2_probabilities
    cells: Literal["basic", "json", "all"] = "basic"

    def check(self, port: int, expected: Callable[[np.ndarray], np.ndarray]) -> None:
        """Raises RuntimeError where the subject's answer isn't the graph's."""
        (rows,) = arrays([5], seed=2)
        status, _, body = post(port, self.write(rows).raw())
        found = np.asarray(self.read(json.loads(body)), np.float32).reshape(5, -1)
        if status != 200 or not np.allclose(found, expected(rows), atol=1e-5):
            raise RuntimeError(f"{self.label} answers something else: {status} {body[:300]!r}")


@contextmanager
def serving(
    argv: list[str],
    port: int,
    probe: Wire,
    log: Path,
    core: int | None = None,
    environment: Mapping[str, str] = {},
    folder: Path | None = None,
) -> Iterator[Endpoint]:
    """A command that serves on `port`, until the context ends. `core` None: any."""
    server = Server(argv, log, core, environment, folder)
    try:
        wait_for_answer(server, port, probe.raw(), START_S)
        yield Endpoint(
            port,
            lambda: cpu_seconds(family(server.pid)),
            signal=lambda number: os.kill(server.pid, number),
        )
    finally:
        server.stop()


def _own_script(
    name: str, write: Writer, core: int | None, *words: str
) -> Callable[[Place], AbstractContextManager[Endpoint]]:
    def start(place: Place) -> AbstractContextManager[Endpoint]:
        port = free_port()
        argv = [
            sys.executable,
            str(HERE / "servers" / f"{name}.py"),
            str(place.graph),
            str(port),
            *words,
        ]
        log = place.scratch / f"{name}-{port}.log"
        return serving(argv, port, write(arrays([1])[0]), log, core)

    return start


_infer = plain_json("/infer")
BARE = Subject(
    "bare", "bare uvicorn + ONNX Runtime", "baseline", _own_script("bare", v2_json, SERVER_CORE),
    cells="json",
)  # fmt: skip
DEFAULTS = Subject(
    "uvicorn", "uvicorn + ONNX Runtime, default options", "baseline",
    _own_script("bare", v2_json, SERVER_CORE, "--defaults"),
)  # fmt: skip
RAY_SERVE = Subject(
    "ray-serve", "Ray Serve as it comes", "baseline", _own_script("ray_serve", _infer, None),
    write=_infer, read=plain_probabilities,
)  # fmt: skip
CAPTURED = Subject(
    "replica", "replica alone, capture on", "alone", _own_script("replica", v2_json, SERVER_CORE)
)
UNCAPTURED = replace(CAPTURED, name="replica-uncaptured", label="replica alone, capture off")
"""Alone: the replica's path in a plain process, without Ray and Kafka. Both are the same
process."""
