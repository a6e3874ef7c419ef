"""Which requests share a run, and what happens if one of them is faulty."""

import asyncio
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper
from onnx_graphs import value, write
from serving_port import ServingPort, body, serving_port

from driftloop_contracts.errors import DriftloopError, RetryLater
from driftloop_contracts.ids import PredictionId
from driftloop_onnx import BackendOptions, Loaded, OnnxModel
from driftloop_serving.batching.model_table import ModelTable
from driftloop_serving.capture.packing import pack
from driftloop_serving.inference.infer_call import InferAnswer, InferCall
from driftloop_serving.inference.v2_codec import V2


@pytest.fixture
async def port(tmp_path: Path, scaler: Path) -> AsyncIterator[ServingPort]:
    async with serving_port(tmp_path) as opened:
        opened.deploy(scaler)
        await warm(opened)
        yield opened


async def warm(port: ServingPort, name: str = "m", data: Any = None) -> None:
    """Call until runs are known to be short, and so are executed on the event loop."""
    for _ in range(40):
        await ask(port, data or body([1.0]), name)
    port.kept()


async def ask(
    port: ServingPort, document: Any, name: str = "m", given_id: str | None = None
) -> InferAnswer:
    call = InferCall(V2, name, orjson.dumps(document), given_id=given_id and PredictionId(given_id))
    return await port.batcher.answer(call)


def data_of(answer: InferAnswer) -> Any:
    return orjson.loads(answer.payload)["outputs"][0]["data"]


async def test_what_arrives_together_shares_one_run_and_each_gets_its_own_rows(
    port: ServingPort,
) -> None:
    answers = await asyncio.gather(*(ask(port, body([float(n)] * (1 + n % 3))) for n in range(12)))
    assert [data_of(a) for a in answers] == [[2.0 * n] * (1 + n % 3) for n in range(12)]
    (batch,) = port.kept()
    assert batch.ids == [a.prediction_id for a in answers]
    assert batch.counts == [1 + n % 3 for n in range(12)]


async def test_a_lone_request_waits_for_nobody(port: ServingPort) -> None:
    await ask(port, body([1.0]))
    assert [len(b.ids) for b in port.kept()] == [1]


async def test_a_bad_request_fails_alone(port: ServingPort) -> None:
    asked = [body([1.0]), body([]), body([2.0]), {"inputs": 7}]
    answers = await asyncio.gather(*(ask(port, d) for d in asked), return_exceptions=True)
    assert [type(a) is InferAnswer for a in answers] == [True, False, True, False]
    assert [len(b.ids) for b in port.kept()] == [2]


async def test_where_a_run_fails_only_those_at_fault_fail(
    port: ServingPort, tmp_path: Path
) -> None:
    """An index out of range makes the whole run of a graph fail."""
    nodes = [helper.make_node("Gather", ["table", "x"], ["y"])]
    folder = write(
        tmp_path / "pick",
        nodes,
        [value("x", None, kind=TensorProto.INT64)],
        [value("y", None)],
        table=np.float32([1, 2, 3]),
    )
    port.deploy(folder, name="pick")

    def pick(*places: int) -> Any:
        tensor = {"name": "x", "datatype": "INT64", "shape": [len(places)], "data": places}
        return {"inputs": [tensor]}

    await warm(port, "pick", pick(1))
    asked = [pick(0), pick(9), pick(1, 2)]
    answers = await asyncio.gather(*(ask(port, d, "pick") for d in asked), return_exceptions=True)
    assert [data_of(a) if isinstance(a, InferAnswer) else type(a).__name__ for a in answers] == [
        [1.0],
        "ModelFailed",
        [2.0, 3.0],
    ]
    assert [(len(b.ids), b.error is None) for b in port.kept()] == [
        (1, True),
        (1, False),
        (1, True),
    ]


async def test_no_run_has_more_rows_than_the_model_wants(port: ServingPort, scaler: Path) -> None:
    port.deploy(scaler, options={"onnx": {"max_batch_rows": 8}})
    await warm(port)
    await asyncio.gather(*(ask(port, body([1.0] * rows)) for rows in (3, 3, 3, 20, 1, 7)))
    assert [b.counts for b in port.kept()] == [[3, 3], [3], [20], [1, 7]]


async def test_a_model_that_gains_from_it_waits_for_company(
    port: ServingPort, scaler: Path
) -> None:
    port.deploy(scaler, options={"onnx": {"max_queue_delay_ms": 50}})
    first = asyncio.create_task(ask(port, body([1.0])))
    while not port.batcher.in_flight:
        await asyncio.sleep(0)
    await asyncio.sleep(0)  # the second one comes in a later turn of the loop
    second = asyncio.create_task(ask(port, body([2.0])))
    assert [data_of(a) for a in await asyncio.gather(first, second)] == [[2.0], [4.0]]
    assert [len(b.ids) for b in port.kept()] == [2]


async def test_requests_of_different_shapes_run_apart(port: ServingPort, tmp_path: Path) -> None:
    nodes = [helper.make_node("ReduceSum", ["x", "axes"], ["y"], keepdims=1)]
    folder = write(
        tmp_path / "sums",
        nodes,
        [value("x", None, None)],
        [value("y", None, 1)],
        axes=np.int64([1]),
    )
    port.deploy(folder, name="sums")

    def row(*numbers: float) -> Any:
        tensor = {"name": "x", "datatype": "FP32", "shape": [1, len(numbers)], "data": numbers}
        return {"inputs": [tensor]}

    await warm(port, "sums", row(1.0, 2.0))
    await warm(port, "sums", row(1.0, 2.0, 3.0))
    asked = [row(1, 2), row(1, 2, 3), row(3, 4), row(5, 6, 7)]
    answers = await asyncio.gather(*(ask(port, d, "sums") for d in asked))
    assert [data_of(a) for a in answers] == [[3.0], [6.0], [7.0], [18.0]]
    assert [len(b.ids) for b in port.kept()] == [2, 2]


async def test_shapes_that_clients_choose_do_not_pile_up(tmp_path: Path) -> None:
    nodes = [helper.make_node("ReduceSum", ["x", "axes"], ["y"], keepdims=1)]
    inputs, outputs = [value("x", None, None)], [value("y", None, 1)]
    folder = write(tmp_path / "sums", nodes, inputs, outputs, axes=np.int64([1]))
    async with serving_port(tmp_path, queues_kept=4) as port:
        port.deploy(folder, name="sums")
        for width in range(1, 30):
            tensor = {"name": "x", "datatype": "FP32", "shape": [1, width], "data": [1.0] * width}
            assert data_of(await ask(port, {"inputs": [tensor]}, "sums")) == [width]
        assert len(port.batcher._queues) <= 4


async def test_while_a_long_run_is_under_way_the_loop_goes_on_and_arrivals_gather(
    tmp_path: Path, scaler: Path
) -> None:
    gate, started = threading.Event(), threading.Event()

    class Slow(OnnxModel):
        def run(self, inputs: Any) -> Any:
            started.set()
            assert gate.wait(120)
            return super().run(inputs)

    async with serving_port(tmp_path, runs_per_queue=1) as port:
        port.deploy(scaler)
        await warm(port)
        port.deploy(scaler, name="slow")
        served = port.batcher.table.models["slow"]
        slow = type(served)(served.deployment, {1: Loaded(Slow(scaler), BackendOptions())})
        port.batcher.table = ModelTable({**port.batcher.table.models, "slow": slow})
        first = asyncio.create_task(ask(port, body([1.0]), "slow"))
        await asyncio.to_thread(started.wait, 10)
        rest = [asyncio.create_task(ask(port, body([float(n)]), "slow")) for n in range(5)]
        assert data_of(await ask(port, body([3.0]))) == [6.0]
        gate.set()
        await asyncio.gather(first, *rest)
        assert [len(b.ids) for b in port.kept() if b.model == "slow"] == [1, 5]


async def test_over_its_limit_it_refuses_and_recovers(port: ServingPort) -> None:
    answers = await asyncio.gather(
        *(ask(port, body([1.0])) for _ in range(200)), return_exceptions=True
    )
    refused = [a for a in answers if isinstance(a, DriftloopError)]
    assert len(refused) == 200 - 64
    assert "try again" in str(refused[0])
    assert (port.batcher.in_flight, data_of(await ask(port, body([1.0])))) == (0, [2.0])


async def test_twins_of_a_request_that_is_under_way_get_its_answer(port: ServingPort) -> None:
    answers = await asyncio.gather(*(ask(port, body([1.0]), given_id="twin") for _ in range(4)))
    assert len({a.payload for a in answers}) == 1
    assert port.batcher.in_flight == 0
    assert [b.ids for b in port.kept()] == [["twin"]]


async def test_a_record_says_whether_clients_chose_ids_in_it(port: ServingPort) -> None:
    """The archiver then only looks for retries of these requests."""
    await ask(port, body([1.0]))
    await ask(port, body([1.0]), given_id="chosen")
    by_record = [
        headers.client_ids
        for batch in port.kept()
        for headers, _ in pack([batch], "r", 5_000, 1 << 20)
    ]
    assert by_record == [False, True]


@settings(max_examples=25, deadline=None)
@given(sizes=st.lists(st.integers(1, 40), min_size=1, max_size=30), seed=st.integers(0, 2**32 - 1))
def test_an_answer_is_the_same_to_the_bit_alone_and_in_company(
    sizes: list[int], seed: int, trees: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    dice = np.random.default_rng(seed)
    rows = [dice.normal(size=(n, 4)).astype(np.float32) for n in sizes]
    session = ort.InferenceSession(str(trees / "model.onnx"), providers=["CPUExecutionProvider"])

    def document(array: np.ndarray) -> Any:
        tensor = {
            "name": "x",
            "datatype": "FP32",
            "shape": array.shape,
            "data": array.ravel().tolist(),
        }
        return {"inputs": [tensor]}

    async def together() -> list[InferAnswer]:
        async with serving_port(tmp_path_factory.mktemp("port")) as port:
            port.deploy(trees)
            await warm(port, data=document(rows[0][:1]))
            return await asyncio.gather(*(ask(port, document(array)) for array in rows))

    for array, answer in zip(rows, asyncio.run(together()), strict=True):
        (alone,) = session.run(["p"], {"x": array})
        assert data_of(answer) == orjson.loads(
            orjson.dumps(alone.ravel(), option=orjson.OPT_SERIALIZE_NUMPY)
        )


@pytest.fixture(scope="session")
def trees(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from lightgbm import LGBMRegressor
    from onnxmltools import convert_lightgbm
    from onnxmltools.convert.common.data_types import FloatTensorType

    dice = np.random.default_rng(0)
    x = dice.normal(size=(500, 4)).astype(np.float32)
    model = LGBMRegressor(n_estimators=20, verbose=-1, n_jobs=1).fit(x, x[:, 0] * x[:, 1])
    graph = convert_lightgbm(
        model, initial_types=[("x", FloatTensorType([None, 4]))], target_opset=15
    )
    graph.graph.output[0].name, before = "p", graph.graph.output[0].name
    for node in graph.graph.node:
        node.output[:] = ["p" if name == before else name for name in node.output]
    folder = tmp_path_factory.mktemp("trees")
    (folder / "model.onnx").write_bytes(graph.SerializeToString())
    return folder


async def test_a_request_that_waits_too_long_has_a_record_with_its_error(
    port: ServingPort, scaler: Path
) -> None:
    """Even if its client disconnected just as late: a request was not answered in time."""
    document = orjson.dumps(body([1.0, 2.0]))
    late = port.batcher.answer(InferCall(V2, "m", document, timeout_s=0.0))
    with pytest.raises(RetryLater):
        await late
    (record,) = port.kept()
    assert (record.error, record.outputs, record.rows) == ("Timeout", None, 2)
    assert port.meter.counts["m", 1, "stable"].failures == {"RetryLater": 1}
    assert port.reader.ledger()["m", 1]["served"] - port.reader.ledger()["m", 1]["acked"] == 0


async def test_late_requests_share_a_record_and_leave_the_others_alone(port: ServingPort) -> None:
    document = orjson.dumps(body([1.0]))
    answers = await asyncio.gather(
        *(
            port.batcher.answer(
                InferCall(
                    V2, "m", document, given_id=PredictionId(f"id-{n}"), timeout_s=n % 2 * 60.0
                )
            )
            for n in range(6)
        ),
        return_exceptions=True,
    )
    assert [isinstance(a, InferAnswer) for a in answers] == [False, True] * 3
    late, ran = port.kept()
    assert (late.error, late.ids) == ("Timeout", ["id-0", "id-2", "id-4"])
    assert (ran.error, ran.ids) == (None, ["id-1", "id-3", "id-5"])


async def test_a_client_that_left_before_its_run_has_no_record(
    port: ServingPort, scaler: Path
) -> None:
    port.deploy(scaler, options={"onnx": {"max_queue_delay_ms": 20}})
    port.kept()
    asked = asyncio.create_task(ask(port, body([1.0])))
    await asyncio.sleep(0)
    asked.cancel()
    await asyncio.gather(asked, return_exceptions=True)
    await ask(port, body([2.0]))
    assert [len(b.ids) for b in port.kept()] == [1]
    assert port.meter.counts["m", 0, ""].failures == {"ClientGone": 1}
