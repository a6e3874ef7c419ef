"""Graphs that leave memory while nobody asks for them, and come back."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import psutil
import pytest
from onnx import TensorProto, helper
from onnx_graphs import value, write
from serving_port import ServingPort, serving_port

from driftloop_contracts.errors import RetryLater
from driftloop_contracts.model import Deployment, ModelSpec, ServedVersion, TrafficSplit
from driftloop_onnx import BackendOptions, Loaded, load, signature_of
from driftloop_serving.batching.call_errors import LATE
from driftloop_serving.batching.model_table import reload
from driftloop_serving.inference.infer_call import InferCall
from driftloop_serving.inference.v2_codec import V2
from driftloop_serving.replicas.residency import Residency

MB = 1 << 20
GRAPH_MB = 16
LIMIT_MB = 3 * GRAPH_MB + 8


@pytest.fixture(scope="module")
def heavy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A graph with 16 MB of weights: twice the input."""
    nodes = [
        helper.make_node("Cast", ["x"], ["place"], to=TensorProto.INT64),
        helper.make_node("Gather", ["weights", "place"], ["factor"]),
        helper.make_node("Mul", ["x", "factor"], ["y"]),
    ]
    return write(
        tmp_path_factory.mktemp("heavy"),
        nodes,
        [value("x", None, 1)],
        [value("y", None, 1)],
        weights=np.full(GRAPH_MB * MB // 4, 2.0, np.float32),
    )


class Held:
    """A port whose graphs have a limit. `fail`: what the next loads raise."""

    def __init__(self, port: ServingPort, limit_mb: int, folder: Path) -> None:
        self.port, self.residency, self.folder = port, Residency(limit_mb * MB), folder
        self.fail: Exception | None = None
        self.gate = threading.Event()
        self.gate.set()

    def _load(self, path: str, options: BackendOptions) -> Loaded:
        assert self.gate.wait(120)
        if self.fail is not None:
            raise self.fail
        return load(path, options)

    def _held(self, path: str, options: BackendOptions) -> Loaded:
        return self.residency.held(partial(self._load, path, options), stays=options.stays_loaded)

    async def deploy(self, *names: str, **onnx: Any) -> None:
        served = (ServedVersion(1, str(self.folder), signature_of(self.folder)),)
        added = [
            Deployment(ModelSpec(name, options={"onnx": onnx}), served, TrafficSplit(1))
            for name in names
        ]
        table = self.port.batcher.table
        self.port.batcher.table = await asyncio.to_thread(
            reload, table, [*self.port.deployments, *added], self._held
        )
        await asyncio.sleep(0)

    async def ask(self, name: str, x: float = 3.0, timeout_s: float = 120.0) -> float:
        document = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 1], "data": [x]}]}
        call = InferCall(V2, name, orjson.dumps(document), timeout_s=timeout_s)
        answer = await self.port.batcher.answer(call)
        return float(orjson.loads(answer.payload)["outputs"][0]["data"][0])

    def awake(self) -> set[str]:
        models = self.port.batcher.table.models
        return {name for name, served in models.items() if served.versions[1].model.awake}


Open = Callable[[int], Any]


@pytest.fixture
def opened(tmp_path: Path, heavy: Path) -> Open:
    @asynccontextmanager
    async def held(limit_mb: int) -> AsyncIterator[Held]:
        async with serving_port(tmp_path) as port:
            found = Held(port, limit_mb, heavy)
            yield found
            found.gate.set()
            found.residency.close()

    return held


async def test_what_was_asked_least_recently_leaves_and_comes_back_when_asked(
    opened: Open,
) -> None:
    async with opened(LIMIT_MB) as held:
        await held.deploy("a", "b")
        assert await held.ask("a") == 6.0
        await held.deploy("c", "d")
        assert held.awake() <= {"a", "c", "d"}
        left = ({"a", "b", "c", "d"} - held.awake()).pop()
        assert held.port.batcher.table.ready
        assert await held.ask(left) == 6.0
        assert left in held.awake()
        graphs = held.residency.now()
        assert graphs.bytes <= LIMIT_MB * MB
        assert (graphs.loads, graphs.awake + graphs.asleep) == (5, 4)


async def test_a_model_that_stays_loaded_never_leaves(opened: Open) -> None:
    async with opened(GRAPH_MB + 4) as held:
        await held.deploy("kept", stays_loaded=True)
        await held.deploy("a", "b")
        for name in ("a", "b", "a"):
            assert await held.ask(name) == 6.0
            assert held.awake() == {"kept", name}


async def test_requests_for_a_model_that_left_wait_for_one_load_while_others_are_answered(
    opened: Open,
) -> None:
    async with opened(GRAPH_MB + 4) as held:
        await held.deploy("a", "b")
        held.gate.clear()
        asked = [asyncio.create_task(held.ask("a", float(n))) for n in range(4)]
        late = asyncio.create_task(held.ask("a", timeout_s=0.0))
        assert await held.ask("b") == 6.0
        held.gate.set()
        assert await asyncio.gather(*asked) == [0.0, 2.0, 4.0, 6.0]
        with pytest.raises(RetryLater, match=LATE):
            await late
        assert held.residency.now().loads == 3


@pytest.mark.parametrize("error", [RetryLater("the bucket is away"), ValueError("broken")])
async def test_a_load_that_fails_fails_its_requests_and_the_next_one_tries_again(
    opened: Open, error: Exception
) -> None:
    async with opened(GRAPH_MB + 4) as held:
        await held.deploy("a", "b")
        held.fail = error
        with pytest.raises(RetryLater, match=r"away|could not be loaded"):
            await held.ask("a")
        held.fail = None
        assert await held.ask("a") == 6.0
        assert held.port.batcher.in_flight == 0


async def test_the_memory_of_the_process_follows_what_is_loaded(opened: Open) -> None:
    async with opened(4 * GRAPH_MB) as held:
        await held.deploy("a")
        before = psutil.Process().memory_info().rss
        names = [f"m{n}" for n in range(24)]
        await held.deploy(*names)
        for name in names:
            assert await held.ask(name) == 6.0
        grown = psutil.Process().memory_info().rss - before
        assert grown < 10 * GRAPH_MB * MB  # of 24


async def test_a_model_that_is_removed_is_forgotten(opened: Open) -> None:
    async with opened(8 * GRAPH_MB) as held:
        await held.deploy("a", "b")
        assert held.residency.now().awake == 2
        held.port.serve([])
        while held.residency.now().awake:  # the thread that loaded them lets go
            await asyncio.sleep(0)
