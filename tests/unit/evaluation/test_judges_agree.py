"""The monitor, the rollout and the retrain give the same rows the same losses."""

from datetime import UTC, datetime
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pytest
from judged_rows import KINDS, SCALE, Kind

from driftloop_contracts.signature import Signature, TensorSpec
from driftloop_lake.port import LakeReader, Pin
from driftloop_monitoring.state.reference import reference_of
from driftloop_retrain.tabular.dataset import from_lake
from driftloop_retrain.tabular.evaluate import losses
from driftloop_rollout.arm_rows import read_arm_rows

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
NOT_IN_A_LAKE = ("pairs", "lists of lists", "bytes")
CLASSES = [k for k in KINDS if k.task == "classification" and k.name not in NOT_IN_A_LAKE]
FLAT = [k for k in KINDS if k.name in ("texts", "whole numbers", "numbers", "booleans", "values")]


def lake_rows(kind: Kind) -> pa.Table:
    """The rows with the lake's other columns; `in_i` numbers them."""
    n = len(kind.rows)
    answer = dict.fromkeys(
        ("in_messages", "in_parameters", "in_operation", "out_text", "out_tool_calls",
         "out_finish_reason"), pa.nulls(n, pa.string()),
    )  # fmt: skip
    found = kind.table
    for name, column in {
        **answer,
        "out_token_s": pa.nulls(n, pa.float64()),
        "in_i": pa.array(range(n), pa.int64()),
        "row": pa.array([0] * n, pa.int32()),
        "version": pa.array([1] * n, pa.int32()),
        "arm": pa.array(["stable"] * n),
        "predicted_at": pa.array([NOW] * n, pa.timestamp("us", "UTC")),
        "latency_s": pa.array([0.1] * n, pa.float32()),
        "error": pa.nulls(n, pa.string()),
    }.items():
        found = found.append_column(name, column)
    return found


class Lake:
    """The one question that a data set asks."""

    def __init__(self, rows: pa.Table) -> None:
        self._rows = rows

    def labelled(self, *_: Any, **__: Any) -> pa.Table:
        return self._rows.filter(self._rows["label"].is_valid())


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.name)
def test_the_monitor_judges_by_them(kind: Kind) -> None:
    rule = reference_of(kind.spec, kind.table, live=False).losses
    np.testing.assert_array_equal(rule.losses(kind.table), kind.losses)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_the_rollout_judges_by_them(kind: Kind) -> None:
    rows = read_arm_rows(lake_rows(kind), kind.spec, SCALE, 1, 2)
    np.testing.assert_array_equal(rows.loss, kind.losses)


@pytest.mark.parametrize("kind", FLAT, ids=lambda kind: kind.name)
def test_the_gate_judges_by_them_what_can_be_trained_on(kind: Kind) -> None:
    datatype = "BYTES" if kind.type == pa.string() else "FP64"
    signature = Signature((TensorSpec("i", "INT64", (-1, 1)),), (TensorSpec("y", datatype, (-1,)),))
    lake = cast("LakeReader", Lake(lake_rows(kind).filter(kind.outputs.is_valid())))
    data = from_lake(lake, kind.spec, signature, Pin(1, 1), NOW, 1_000)
    rows = data.features["i"].to_pylist()
    predicted = kind.outputs.take(pa.array(rows)).to_numpy(zero_copy_only=False)
    expected = np.array(kind.losses)
    found = losses(kind.task, data.labels, predicted, SCALE)
    np.testing.assert_array_equal(found, expected[rows])
    # All that is judged elsewhere is trained on, but for a class that no output could name.
    judged = {i for i, loss in enumerate(expected) if not np.isnan(loss)}
    assert judged - set(rows) == {i for i in judged if kind.rows[i][1] == 0.5}
