"""A model with several labelled outputs: labels are mappings, and each output has its metric."""

import json
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import yaml

from driftloop_contracts.errors import Rejected
from driftloop_contracts.model import ModelSpec
from driftloop_contracts.signature import Signature, TensorSpec
from driftloop_evaluation.agreement import agreeing
from driftloop_evaluation.labels import Labels, arrived
from driftloop_evaluation.measures import Measure, measures_of
from driftloop_evaluation.served_objectives import served_objectives

OFFERS = """
name: offers
task: classification
output: approve
objective:
  - {metric: error, label: approve}
  - {metric: absolute, label: amount, margin: 5%}
guardrails:
  - {metric: brier, label: approve}
slices:
  - new: tenure < 3
"""
SIGNATURE = Signature(
    (TensorSpec("tenure", "INT64", (-1, 1)),),
    (
        TensorSpec("approve", "INT64", (-1,)),
        TensorSpec("approve_scores", "FP32", (-1, 2)),
        TensorSpec("amount", "FP32", (-1,)),
    ),
)


def offers(**more: Any) -> ModelSpec:
    return ModelSpec.from_dict({**yaml.safe_load(OFFERS), **more})


def rows(labels: list[Any]) -> pa.Table:
    n = len(labels)
    return pa.table(
        {
            "in_tenure": pa.array([1, 9] * (n // 2)),
            "out_approve": pa.array([1] * n),
            "out_approve_scores": pa.array([[0.2, 0.8]] * n),
            "out_amount": pa.array([300.0] * n),
            "label": pa.array([None if v is None else json.dumps(v) for v in labels], pa.string()),
            "label_number": pa.nulls(n, pa.float64()),
        }
    )


def test_each_output_is_found_by_the_name_of_its_label() -> None:
    spec = served_objectives(offers(), SIGNATURE)
    assert [o.output for o in spec.judged_by] == ["approve", "amount", "approve_scores"]
    assert spec.labels == ("approve", "amount")
    assert ModelSpec.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec


def test_a_label_may_belong_to_an_output_of_another_name() -> None:
    said = {"task": "classification", "output": "approve"}
    own = ModelSpec.from_dict(
        {"name": "m", **said, "objective": {"metric": "error", "label": "ok"}}
    )
    found = served_objectives(own, SIGNATURE).objective
    assert found is not None
    assert found.output == "approve"


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"objective": [{"metric": "error", "label": "approve", "output": "aprove"}]},
         "'aprove' is not in the graph; it has amount"),
        ({"guardrails": [{"metric": "error", "label": "renew"}]},
         "say which `output` the label 'renew' compares with"),
        ({"objective": [{"metric": "error", "label": "a"}, {"metric": "error", "label": "b"}]},
         "say which `output` the label 'a' compares with"),
        ({"guardrails": [{"metric": "miss_rate", "label": "amount", "positive": "yes"}]},
         "no output names classes by text"),
        ({"guardrails": [{"metric": "brier", "label": "approve", "classes": ["a", "b", "c"]}]},
         "2 probabilities a row, and `classes` names 3"),
    ],
)  # fmt: skip
def test_what_the_outputs_cannot_serve_is_refused(more: dict[str, Any], why: str) -> None:
    with pytest.raises(Rejected, match=why):
        served_objectives(offers(**more), SIGNATURE)


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"objective": []}, "an empty list"),
        ({"objective": ["error", {"metric": "absolute", "label": "amount"}]},
         "metric 'error': say which `label` it compares"),
        ({"objective": None}, "say an `objective` with the `label`"),
        ({"objective": ["error", "error"], "guardrails": []}, "'error' is there twice"),
        ({"objective": ["error", "absolute"], "guardrails": []}, "is for regression"),
        ({"guardrails": [{"metric": "absolute", "label": "amount"}]}, "is an objective too"),
        ({"further": ["error"]}, "list several metrics under `objective`"),
    ],
)  # fmt: skip
def test_a_spec_that_makes_no_sense_is_refused(more: dict[str, Any], why: str) -> None:
    with pytest.raises(Rejected, match=why):
        offers(**more)


def test_a_row_is_labelled_once_it_has_a_value_for_each_output() -> None:
    told = [
        {"approve": 1, "amount": 310},
        {"approve": 0, "amount": None},
        {"approve": 1},
        {"amount": 7, "colour": "red"},
        1,
        None,
    ]
    table = rows(told)
    assert arrived(table, ("approve", "amount")).tolist() == [True, True, *[False] * 4]
    assert arrived(table, ()).tolist() == [*[True] * 5, False]
    # a model whose labels are values does not take a mapping for one
    assert Labels.of_rows(table).names().to_pylist()[:5] == [*[None] * 4, "1"]


def test_each_objective_is_a_measure_of_its_own_and_so_are_its_slices() -> None:
    spec = served_objectives(offers(), SIGNATURE)
    table = rows([{"approve": 1, "amount": 310}, {"approve": 0, "amount": 250}] * 20)
    found = measures_of(spec, table, 0.02, 5)
    names = ["quality", "absolute amount", "brier approve"]
    assert [m.name for m in found.all] == [
        *names, "slice new (error approve)", "slice new (absolute amount)",
    ]  # fmt: skip
    assert [m.decisive for m in found.all] == [True, True, False, False, False]
    assert found.all[0].of == "error approve"
    assert [m.of for m in found.others] == [""] * 4
    losses = [np.nanmean(m.losses(table)) for m in found.all]
    assert losses[0] == 0.5
    assert found.all[1].rule.value(float(losses[1])) == pytest.approx(30)
    assert losses[3] == 0.0
    again = [Measure.from_dict(spec, json.loads(json.dumps(m.to_dict()))) for m in found.all]
    assert [m.decisive for m in again] == [m.decisive for m in found.all]


def test_versions_agree_if_all_judged_outputs_do() -> None:
    spec = served_objectives(offers(), SIGNATURE)
    table = rows([None, None])
    other = table.set_column(3, "out_amount", pa.array([300.0, 200.0]))
    assert agreeing(spec, table, other).tolist() == [True, False]
