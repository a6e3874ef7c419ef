"""Keeps the graphs of a replica within a limit of memory: those asked least recently leave it, and
are loaded again when they are asked."""

import asyncio
import ctypes
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING
from weakref import WeakSet

import numpy as np
import psutil
import structlog

from driftloop_contracts.errors import DriftloopError, RetryLater
from driftloop_serving.metrics.meter_files import Graphs

if TYPE_CHECKING:
    from driftloop_onnx import Loaded
    from driftloop_onnx.graph import Graph, Then

log = structlog.get_logger()


class Residency:
    """Create it on the event loop. limit_bytes: of all graphs together, as measured; the one asked
    last stays even if it is larger."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit = limit_bytes
        self._loop = asyncio.get_running_loop()
        self._graphs: WeakSet[SleepingGraph] = WeakSet()
        self._one_at_a_time = threading.Lock()
        self._threads = ThreadPoolExecutor(1, "load")
        self._loads = 0
        self._process = psutil.Process()

    def held(self, load: "Callable[[], Loaded]", *, stays: bool) -> "Loaded":
        """Load a graph that may leave memory, unless it `stays`. Blocks; raises what `load` does.
        `load` is called again when a graph that has left is asked."""
        loaded, size = self.measured(load)
        graph = SleepingGraph(self, loaded.model, load, size, stays)
        self._loop.call_soon_threadsafe(self._settle, graph)
        return replace(loaded, model=graph)

    def measured(self, load: "Callable[[], Loaded]") -> "tuple[Loaded, int]":
        """Load, and return the bytes by which the process grew: at least those of the files, since
        a graph may take memory that was freed before."""
        with self._one_at_a_time:
            _give_back()
            before = self._process.memory_info().rss
            loaded = load()
            _give_back()
            self._loads += 1
            grown = self._process.memory_info().rss - before
            return loaded, max(loaded.file_bytes, grown)

    def load_soon(self, load: Callable[[], object], then: "Then") -> None:
        """Load in a thread, make room, and call `then` on the event loop."""

        def finish(error: DriftloopError | None) -> None:
            self._settle()
            then(error)

        def work() -> None:
            error: DriftloopError | None = None
            try:
                load()
            except DriftloopError as why:
                error = why
            except Exception:
                log.exception("model.load_broke")
                error = RetryLater("the model left memory and could not be loaded; see the log")
            with suppress(RuntimeError):  # the replica ends
                self._loop.call_soon_threadsafe(finish, error)

        self._threads.submit(work)

    def _settle(self, newest: "SleepingGraph | None" = None) -> None:
        """Let the graphs asked least recently sleep until the others fit."""
        if newest is not None:
            self._graphs.add(newest)
        awake = sorted((g for g in self._graphs if g.awake), key=lambda g: g.used_at)
        excess = sum(graph.bytes for graph in awake) - self._limit
        leaving: list[Graph | None] = []
        for graph in awake[:-1]:
            if excess <= 0:
                break
            if not graph.stays:
                leaving.append(graph.sleep())
                excess -= graph.bytes
        if leaving:
            self._threads.submit(_release, leaving)

    def now(self) -> Graphs:
        """What is in memory. Called on the event loop."""
        graphs = list(self._graphs)
        awake = [graph.bytes for graph in graphs if graph.awake]
        return Graphs(len(awake), len(graphs) - len(awake), sum(awake), self._loads)

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)


class SleepingGraph:
    """A graph that is loaded again when it is asked. Its signature stays known. bytes: the most
    that it was measured to take."""

    def __init__(
        self,
        residency: Residency,
        graph: "Graph",
        load: "Callable[[], Loaded]",
        size: int,
        stays: bool,
    ) -> None:
        self.signature = graph.signature
        self.bytes = size
        self.stays = stays
        self.used_at = time.monotonic()
        self._residency = residency
        self._graph: Graph | None = graph
        self._load = load
        self._waiting: list[Then] = []

    @property
    def awake(self) -> bool:
        return self._graph is not None

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        self.used_at = time.monotonic()
        graph = self._graph
        if graph is None:  # it left between the plan of a run in a thread and the run
            graph = self._loaded()
        return graph.run(inputs)

    def wake(self, then: "Then") -> None:
        self.used_at = time.monotonic()
        self._waiting.append(then)
        if len(self._waiting) == 1:
            self._residency.load_soon(self._loaded, self._woken)

    def sleep(self) -> "Graph | None":
        """Leave memory once runs under way have ended and the caller lets go of what it gets."""
        graph, self._graph = self._graph, None
        return graph

    def _loaded(self) -> "Graph":
        loaded, size = self._residency.measured(self._load)
        self.bytes = max(self.bytes, size)
        self._graph = loaded.model
        return loaded.model

    def _woken(self, error: DriftloopError | None) -> None:
        waiting, self._waiting = self._waiting, []
        for then in waiting:
            then(error)


def _release(leaving: "list[Graph | None]") -> None:
    leaving.clear()
    _give_back()


def _give_back() -> None:
    """Return memory that was freed to the system, which glibc would keep."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
