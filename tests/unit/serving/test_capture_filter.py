"""What a replica leaves out of its spool, without changing its answers."""

import asyncio
import io
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pytest
from onnx import TensorProto, helper
from onnx_graphs import value, write
from pydantic import SecretStr
from serving_port import ServingPort, body, serving_port

from driftloop_contracts.capture import CaptureRules
from driftloop_contracts.events import prediction_schema
from driftloop_contracts.signature import Signature, TensorSpec
from driftloop_serving.batching.model_table import ModelTable, reload
from driftloop_serving.capture.capture_filter import capture_filter
from driftloop_serving.capture.packing import pack
from driftloop_serving.capture.spool import SpoolWriter
from driftloop_serving.capture.spool_reader import SpoolReader
from driftloop_serving.capture.spool_record import PredictionBatch
from driftloop_serving.inference.infer_call import InferCall
from driftloop_serving.inference.v2_codec import V2
from driftloop_settings import CaptureSettings

SIGNATURE = Signature(
    (TensorSpec("name", "BYTES", (-1, 1)), TensorSpec("age", "FP32", (-1,))),
    (TensorSpec("text", "BYTES", (-1,)), TensorSpec("p", "FP32", (-1, 2))),
)
KEYED = CaptureSettings(hash_key=SecretStr("pepper"))


def texts(*values: str) -> np.ndarray:
    return np.array(values, dtype=object)


def batch(count: int = 2) -> PredictionBatch:
    names = texts(*(f"Ada {n}" for n in range(count))).reshape(count, 1)
    return PredictionBatch(
        "m",
        1,
        "stable",
        [f"id-{n}" for n in range(count)],
        [0.1] * count,
        [1] * count,
        SIGNATURE,
        {"name": names, "age": np.arange(count, dtype=np.float32)},
        {"text": texts(*["a long answer"] * count), "p": np.zeros((count, 2), np.float32)},
    )


def applied(
    found: PredictionBatch, settings: CaptureSettings = KEYED, **rules: Any
) -> PredictionBatch:
    made = capture_filter(CaptureRules(**rules), SIGNATURE, settings)
    assert made is not None
    return made.apply(found)


def test_without_rules_there_is_no_filter() -> None:
    assert capture_filter(CaptureRules(), SIGNATURE, CaptureSettings()) is None


def test_rules_change_what_is_kept_and_nothing_else() -> None:
    before = batch()
    kept = applied(
        before, drop=frozenset({"age", "p"}), hash=frozenset({"name"}), truncate={"text": 6}
    )
    assert kept.inputs["age"] is None
    assert kept.outputs is not None
    assert kept.outputs["p"] is None
    assert kept.outputs["text"].tolist() == ["a long"] * 2  # type: ignore[union-attr]
    (first,), (second,) = kept.inputs["name"].tolist()  # type: ignore[union-attr]
    assert len(first) == 32 != second
    assert before.inputs["name"].tolist() == [["Ada 0"], ["Ada 1"]]  # type: ignore[union-attr]
    assert before.inputs["age"] is not None


def test_the_same_text_has_the_same_hash_and_another_key_another() -> None:
    one, other = (
        applied(batch(), CaptureSettings(hash_key=SecretStr(key)), hash=frozenset({"name"}))
        for key in ("pepper", "salt")
    )
    again = applied(batch(), hash=frozenset({"name"}))
    assert np.array_equal(one.inputs["name"], again.inputs["name"])  # type: ignore[arg-type]
    assert not np.array_equal(one.inputs["name"], other.inputs["name"])  # type: ignore[arg-type]


def test_what_cannot_be_hashed_or_truncated_is_dropped_and_never_kept_as_it_is() -> None:
    """If the key was removed, or a later version has another type, the model continues to serve."""
    keyless = applied(batch(), CaptureSettings(), hash=frozenset({"name"}))
    assert keyless.inputs["name"] is None
    retyped = applied(batch(), hash=frozenset({"age"}), truncate={"p": 1})
    assert retyped.inputs["age"] is None
    assert retyped.outputs is not None
    assert retyped.outputs["p"] is None


def test_sampling_keeps_whole_predictions_and_says_how_many_rows_it_left_out(
    tmp_path: Path,
) -> None:
    before = batch(200)._replace(counts=[1, 3] * 50)
    before = before._replace(ids=before.ids[:100], latencies_s=before.latencies_s[:100])
    kept = applied(before, sample=0.5)
    rows = dict(zip(before.ids, before.counts, strict=True))
    assert 20 < len(kept.ids) < 80
    assert list(kept.counts) == [rows[i] for i in kept.ids]
    assert kept.rows + kept.left_out == 200
    starts = np.cumsum([0, *before.counts])
    first = kept.ids.index(kept.ids[-1])
    place = before.ids.index(kept.ids[-1])
    ages = kept.inputs["age"]
    assert ages is not None
    assert ages[sum(kept.counts[:first])] == starts[place]
    writer = SpoolWriter(tmp_path, "replica", CaptureSettings())
    assert writer.append([kept])
    reader = SpoolReader(tmp_path / writer.replica)
    chunk = reader.read(1 << 20)
    reader.acknowledge(chunk, {})
    assert chunk.predictions[0].ids == kept.ids
    assert reader.ledger()["m", 1] == {
        "served": 200,
        "acked": kept.rows,
        "spooled": 0,
        "dropped": {"sampled": kept.left_out},
    }


def test_a_batch_of_which_nothing_is_sampled_is_counted_and_leaves_no_record(
    tmp_path: Path,
) -> None:
    writer = SpoolWriter(tmp_path, "replica", CaptureSettings())
    assert writer.append([applied(batch(), sample=0.0)])
    reader = SpoolReader(tmp_path / writer.replica)
    assert reader.read(1 << 20).records == ()
    assert reader.ledger()["m", 1]["dropped"] == {"sampled": 2}


def test_a_dropped_column_travels_as_null(tmp_path: Path) -> None:
    writer = SpoolWriter(tmp_path, "replica", CaptureSettings())
    writer.append([applied(batch(), drop=frozenset({"age", "p", "name"})), batch()])
    found = SpoolReader(tmp_path / writer.replica).read(1 << 20).predictions
    ((_, sent),) = pack(found, "r", 100, 1 << 20)
    assert sent is not None
    table = pa.ipc.open_stream(io.BytesIO(sent)).read_all()
    assert table.schema.equals(prediction_schema(SIGNATURE))
    assert table["in_age"].to_pylist() == [None, None, 0.0, 1.0]
    assert table["in_name"].to_pylist() == [None, None, "Ada 0", "Ada 1"]
    assert table["out_p"].to_pylist() == [None, None, [0.0, 0.0], [0.0, 0.0]]
    part = found[0].part(1, 2)
    assert part.inputs["age"] is None


@pytest.fixture
async def port(tmp_path: Path) -> AsyncIterator[ServingPort]:
    async with serving_port(tmp_path) as opened:
        yield opened


async def test_a_replica_answers_as_ever_and_spools_what_the_rules_leave(
    port: ServingPort, tmp_path: Path
) -> None:
    nodes = [helper.make_node("Identity", ["x"], ["y"])]
    folder = write(
        tmp_path / "echo",
        nodes,
        [value("x", None, kind=TensorProto.STRING)],
        [value("y", None, kind=TensorProto.STRING)],
    )
    rules = {"hash": ["x"], "truncate": {"y": 2}}
    port.deploy(folder, options={"capture": rules})
    port.batcher.table = reload(ModelTable(), port.deployments, capture=KEYED)
    tensor = {"name": "x", "datatype": "BYTES", "shape": [1], "data": ["Lovelace"]}
    request = orjson.dumps({"inputs": [tensor]})
    answer = await port.batcher.answer(InferCall(V2, "m", request))
    assert orjson.loads(answer.payload)["outputs"][0]["data"] == ["Lovelace"]
    spooled = b"".join(path.read_bytes() for path in port.spool.folder.glob("*"))
    assert b"Lovelace" not in spooled
    (kept,) = port.kept()
    assert kept.outputs is not None
    assert kept.outputs["y"].tolist() == ["Lo"]  # type: ignore[union-attr]


async def test_a_replica_captures_the_share_that_is_set_and_answers_all(
    port: ServingPort, scaler: Path
) -> None:
    port.deploy(scaler)
    port.batcher.table = reload(ModelTable(), port.deployments, capture=CaptureSettings(sample=0.5))
    document = orjson.dumps(body([1.0]))
    answers = await asyncio.gather(
        *(port.batcher.answer(InferCall(V2, "m", document)) for _ in range(60))
    )
    kept = {i for found in port.kept() for i in found.ids}
    assert kept < {a.prediction_id for a in answers}
    entry = port.reader.ledger()["m", 1]
    assert entry["served"] == 60 == entry["acked"] + entry["dropped"]["sampled"]
    assert port.meter.counts["m", 1, "stable"].requests == 60
