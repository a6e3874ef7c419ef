"""A candidate in a process of its own, and the rows of a real lake."""

import io
import os
import signal
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from lake_records import message
from onnx import TensorProto, helper
from onnx_graphs import value, write

from driftloop_contracts.events import PREDICTIONS, PredictionHeaders, prediction_schema
from driftloop_contracts.ids import uuid7
from driftloop_contracts.model import Deployment, ModelSpec, ServedVersion, TrafficSplit
from driftloop_contracts.signature import Signature, TensorSpec
from driftloop_lake.delta_lake import DeltaLake
from driftloop_lake.records import LabelRecord
from driftloop_lake.writer import LakeWriter
from driftloop_monitoring.archive.bus_records import read_record
from driftloop_onnx import BackendOptions
from driftloop_rollout.controller import Controller
from driftloop_rollout.machine import Event, Rollout, State
from driftloop_rollout.shadow_process import (
    Answered,
    Limits,
    ShadowDied,
    ShadowProcess,
    ShadowRefused,
)
from driftloop_settings import RolloutSettings, Settings
from driftloop_store.store import open_store

pytestmark = pytest.mark.integration

SIGNATURE = Signature((TensorSpec("x", "FP32", (-1, 2)),), (TensorSpec("label", "INT64", (-1,)),))
WAIT_S = 60.0


def threshold_graph(folder: Path, at: float) -> ServedVersion:
    """label = the first of two inputs is above `at`."""
    nodes = [
        helper.make_node("Gather", ["x", "column"], ["first"], axis=1),
        helper.make_node("Greater", ["first", "at"], ["above"]),
        helper.make_node("Cast", ["above"], ["label"], to=TensorProto.INT64),
    ]
    write(
        folder,
        nodes,
        [value("x", None, 2)],
        [value("label", None, kind=TensorProto.INT64)],
        column=np.int64(0),
        at=np.float32(at),
    )
    return ServedVersion(2, str(folder), SIGNATURE)


def eating_graph(folder: Path, numbers: int) -> ServedVersion:
    """The same graph, which spreads each row over as many numbers."""
    nodes = [
        helper.make_node("Gather", ["x", "column"], ["first"], axis=1),
        helper.make_node("Unsqueeze", ["first", "axis"], ["tall"]),
        helper.make_node("Expand", ["tall", "shape"], ["spread"]),
        helper.make_node("ReduceMax", ["spread"], ["back"], axes=[1], keepdims=0),
        helper.make_node("Greater", ["back", "at"], ["above"]),
        helper.make_node("Cast", ["above"], ["label"], to=TensorProto.INT64),
    ]
    write(
        folder,
        nodes,
        [value("x", None, 2)],
        [value("label", None, kind=TensorProto.INT64)],
        column=np.int64(0),
        axis=np.array([1], np.int64),
        shape=np.array([1, numbers], np.int64),
        at=np.float32(0.5),
    )
    return ServedVersion(2, str(folder), SIGNATURE)


def rows(n: int) -> pa.Table:
    first = np.linspace(0, 1, n, dtype=np.float32)
    x = [[float(a), 0.0] for a in first]
    ids = [f"p{i // 3}" for i in range(n)]
    return pa.table({"prediction_id": ids, "in_x": pa.array(x, pa.list_(pa.float32()))})


def waited(process: ShadowProcess, what: Callable[[], object]) -> object:
    end = time.monotonic() + WAIT_S
    while time.monotonic() < end:
        if found := what():
            return found
        time.sleep(0.02)
    raise AssertionError("the process did not answer in time")


@pytest.fixture
def process(tmp_path: Path) -> Iterator[ShadowProcess]:
    found = ShadowProcess(threshold_graph(tmp_path / "v2", 0.5), BackendOptions())
    yield found
    found.close()


def test_it_answers_each_row_behind_every_other_process(process: ShadowProcess) -> None:
    waited(process, lambda: process.idle)
    assert os.sched_getscheduler(process.pid) == os.SCHED_IDLE
    process.ask(rows(1_000))
    found = waited(process, process.answered)
    assert isinstance(found, Answered)
    assert found.answers["out_label"].to_pylist() == [0] * 500 + [1] * 500
    assert not any(found.answers["failed"].to_pylist())
    assert found.memory_bytes > 0


def test_a_process_that_is_killed_or_hangs_is_told_and_waited_for_no_longer(
    process: ShadowProcess, tmp_path: Path
) -> None:
    waited(process, lambda: process.idle)
    os.kill(process.pid, signal.SIGSEGV)
    process.ask(rows(3))
    with pytest.raises(ShadowDied, match="SIGSEGV"):
        waited(process, process.answered)
    hung = ShadowProcess(
        threshold_graph(tmp_path / "v3", 0.5), BackendOptions(), Limits(wall_s=0.0)
    )
    try:
        with pytest.raises(ShadowDied, match="did not answer within"):
            waited(hung, lambda: hung.idle)
    finally:
        hung.close()


def test_a_graph_that_eats_memory_fails_within_its_limit(tmp_path: Path) -> None:
    """Its rows fail, or its process ends; either way the candidate is rolled back, and nothing else
    of the machine is short of memory."""
    limits = Limits(memory_bytes=1 << 29)
    process = ShadowProcess(eating_graph(tmp_path, 1 << 30), BackendOptions(), limits)

    def outcome() -> list[bool] | str:
        waited(process, lambda: process.idle)
        process.ask(rows(3))
        try:
            found = waited(process, process.answered)
        except ShadowDied as died:
            return str(died)
        assert isinstance(found, Answered)
        assert found.memory_bytes < 2 << 30
        return found.answers["failed"].to_pylist()

    try:
        found = outcome()
    finally:
        process.close()
    assert found == [True] * 3 or "512 MiB of memory" in str(found)


def test_a_graph_that_cannot_be_loaded_is_refused_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"not a graph")
    process = ShadowProcess(ServedVersion(2, str(tmp_path), SIGNATURE), BackendOptions())
    try:
        with pytest.raises(ShadowRefused, match="not a loadable ONNX model"):
            waited(process, lambda: process.idle)
    finally:
        process.close()


def archived(uri: str, n: int, began: datetime, rng: np.random.Generator) -> None:
    """n requests of one row, a hundred a second, which version 1 answered; the label is whether the
    first input is above .5, for nine of ten."""
    x = rng.random((n, 2), dtype=np.float32)
    truth = (x[:, 0] > 0.5) ^ (rng.random(n) < 0.1)
    at = [began + timedelta(milliseconds=10 * i) for i in range(n)]
    ids = [uuid7(int(t.timestamp() * 1000), i) for i, t in enumerate(at)]
    table = pa.table(
        {
            "prediction_id": ids,
            "row": [0] * n,
            "version": [1] * n,
            "arm": ["stable"] * n,
            "predicted_at": at,
            "replica": ["r1"] * n,
            "sequence": list(range(n)),
            "latency_s": [0.002] * n,
            "error": pa.nulls(n, pa.string()),
            "routing_key_hash": pa.nulls(n, pa.int64()),
            "trace_id": pa.nulls(n, pa.string()),
            "in_x": [row.tolist() for row in x],
            "out_label": (x[:, 0] > 0.52).astype(np.int64),
        }
    ).cast(prediction_schema(SIGNATURE))
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    headers = PredictionHeaders("loans", 1, "r1", 0, n - 1, n)
    predictions = read_record(message(PREDICTIONS, sink.getvalue(), 0, headers.encode()))
    LakeWriter(uri).append([predictions, *labels(ids, truth, began)])


def labels(ids: list[str], truth: np.ndarray, at: datetime) -> list[LabelRecord]:
    from lake_records import label_message

    return [
        record
        for i, (id_, true) in enumerate(zip(ids, truth, strict=True))
        if isinstance(
            record := read_record(label_message(i, prediction_id=id_, label=int(true))), LabelRecord
        )
    ]


@pytest.mark.parametrize(("at", "event"), [(0.5, Event.PASS), (0.7, Event.HARM)])
def test_twenty_thousand_waiting_labels_give_a_verdict_within_a_minute(
    tmp_path: Path, at: float, event: Event
) -> None:
    uri, n = str(tmp_path / "lake"), 20_000
    began = datetime.now(UTC) - timedelta(seconds=n / 100 + 60)
    archived(uri, n, began, np.random.default_rng(0))
    candidate = threshold_graph(tmp_path / "v2", at)
    first = Path(candidate.path) / "lineage.json"
    first.write_text(
        f'{{"data": {{"predictions": 0, "labels": 0, "as_of": "{began.isoformat()}"}}}}'
    )
    store = open_store(f"sqlite:///{tmp_path / 'store.db'}")
    settings = Settings(state_dir=tmp_path, rollout=RolloutSettings())
    champion = threshold_graph(tmp_path / "v1", 0.52)
    served = (ServedVersion(1, champion.path, SIGNATURE),)
    spec = ModelSpec("loans", "classification", "label")
    store.put_deployment(Deployment(spec, served, TrafficSplit(1)))
    store.request_rollout("r1", candidate, "loans", datetime.now(UTC), "the gate was passed")
    controller = Controller(settings, store, lambda: DeltaLake(uri))
    asked = time.monotonic()
    try:
        while True:
            controller.tick(datetime.now(UTC))
            rollout = Rollout.from_record(store.rollout("r1"))
            if rollout.state not in (State.PENDING, State.SHADOW):
                break
            assert time.monotonic() - asked < WAIT_S, rollout.reason
            time.sleep(0.05)
    finally:
        controller.close()
        store.close()
    assert rollout.history[1].event is event, rollout.reason
    assert rollout.shadow is not None
    print(f"verdict after {time.monotonic() - asked:.1f} s: {rollout.history[1].reason}")
    # The answers are archived, once each, under the prediction's id.
    end = began + timedelta(days=1)
    answers = DeltaLake(uri).shadows().read("loans", 2, began, end)
    assert answers.num_rows == rollout.shadow.answered
    assert set(answers["arm"].to_pylist()) == {"shadow"}
