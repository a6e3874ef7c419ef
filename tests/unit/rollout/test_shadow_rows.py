"""Rows of the lake become a graph's inputs again, and its outputs rows of the lake."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from driftloop_contracts.events import column_type
from driftloop_contracts.model import ModelSpec
from driftloop_contracts.signature import Signature, TensorSpec
from driftloop_rollout.shadow_rows import answers_of, askable, inputs_of, unanswerable

SIGNATURE = Signature(
    (
        TensorSpec("n", "FP32", (-1, 1)),
        TensorSpec("text", "BYTES", (-1,)),
        TensorSpec("grid", "INT64", (-1, 2, 2)),
        TensorSpec("big", "UINT64", (-1,)),
    ),
    (TensorSpec("label", "INT64", (-1,)), TensorSpec("p", "FP32", (-1, 2))),
    (TensorSpec("extra", "FP32", (-1,)),),
)
SPEC = ModelSpec("m", "classification", "label")


def rows(n: int = 3) -> pa.Table:
    kinds = {"in_" + t.name: column_type(t) for t in SIGNATURE.accepted}
    values = {
        "in_n": [0.5] * n,
        "in_text": ["ä"] * n,
        "in_grid": [[1, 2, 3, 4]] * n,
        "in_big": [2**64 - 1] * n,
        "in_extra": [None] * (n - 1) + [1.0],
    }
    return pa.table({name: pa.array(v, kinds[name]) for name, v in values.items()})


def test_inputs_have_the_shapes_and_types_of_the_signature() -> None:
    found = inputs_of(rows(), SIGNATURE)
    assert {name: (a.shape, a.dtype) for name, a in found.items()} == {
        "n": ((3, 1), np.float32),
        "text": ((3,), np.dtype(object)),
        "grid": ((3, 2, 2), np.int64),
        "big": ((3,), np.uint64),
    }
    assert found["big"][0] == 2**64 - 1
    assert found["grid"][0].tolist() == [[1, 2], [3, 4]]


def test_a_row_with_an_optional_input_or_without_a_needed_one_is_not_asked() -> None:
    table = rows()
    texts = pa.array([None, "b", "c"], pa.string())
    table = table.set_column(table.schema.get_field_index("in_text"), "in_text", texts)
    assert askable(table, SIGNATURE)["in_text"].to_pylist() == ["b"]


def test_answers_have_the_columns_of_the_lake_and_nulls_if_the_run_failed() -> None:
    outputs = {"label": np.array([1, 0]), "p": np.array([[0.25, 0.75], [1.0, 0.0]], np.float32)}
    found = answers_of(outputs, SIGNATURE, 2)
    assert found.to_pydict() == {"out_label": [1, 0], "out_p": [[0.25, 0.75], [1.0, 0.0]]}
    nothing = answers_of(None, SIGNATURE, 2)
    assert nothing.schema == found.schema
    assert nothing["out_p"].null_count == 2


@pytest.mark.parametrize(
    ("spec", "shape", "why"),
    [
        (SPEC, (-1, 1), ""),
        (SPEC, (-1, -1), "no fixed shape"),
        (SPEC, (1, 1), "no fixed shape"),
        (replace(SPEC, options={"capture": {"drop": ["n"]}}), (-1, 1), "not captured as it was"),
    ],
)
def test_why_rows_cannot_be_answered_again_is_said(
    spec: ModelSpec, shape: tuple[int, ...], why: str
) -> None:
    changed = replace(SIGNATURE, inputs=(TensorSpec("n", "FP32", shape), *SIGNATURE.inputs[1:]))
    found = unanswerable(spec, changed, rows().column_names)
    assert why in found
    assert bool(found) == bool(why)


def test_an_input_that_the_lake_lacks_is_named() -> None:
    more = replace(SIGNATURE, inputs=(*SIGNATURE.inputs, TensorSpec("new", "FP32", (-1,))))
    assert "no column for input 'new'" in unanswerable(SPEC, more, rows().column_names)
