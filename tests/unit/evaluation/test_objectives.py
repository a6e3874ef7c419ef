"""Each metric as a loss in [0, 1] a row, and what its mean says in the metric's own unit."""

import json
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from driftloop_contracts.errors import Rejected
from driftloop_contracts.kind import LANGUAGE
from driftloop_contracts.model import ModelSpec
from driftloop_contracts.objective import METRICS, parse_objective
from driftloop_contracts.signature import Signature, TensorSpec
from driftloop_evaluation.loss_rule import LossRule
from driftloop_evaluation.measures import Measure, all_losses, measures_of
from driftloop_evaluation.objective_losses import learn
from driftloop_evaluation.served_objectives import served_objectives

NAN = float("nan")
FRAUD = {"positive": "fraud"}


def rows(labels: list[Any], **outputs: Any) -> pa.Table:
    """As the lake has them."""
    numbers = [float(v) if isinstance(v, bool | int | float) else None for v in labels]
    texts = [None if v is None else json.dumps(v) for v in labels]
    columns = {f"out_{name}": pa.array(values) for name, values in outputs.items()}
    label = {"label": pa.array(texts, pa.string()), "label_number": pa.array(numbers, pa.float64())}
    return pa.table(columns | label)


def spec(**more: Any) -> ModelSpec:
    value = {"name": "m", "task": "classification", "output": "y", **more}
    return ModelSpec.from_dict(value)


def judged(said: dict[str, Any], table: pa.Table, **more: Any) -> list[float]:
    own = spec(**more)
    objective = parse_objective(said, "objective")
    rule = LossRule(own, None, objective, learn(own, objective, table))
    return [None if np.isnan(x) else round(float(x), 4) for x in rule.losses(table)]  # type: ignore[misc]


CLASSES = rows(
    ["fraud", "fraud", "ok", "ok", "ok", None], y=["fraud", "ok", "ok", "fraud", "ok", "ok"]
)
BINARY = rows([1, 0, 1, "x", None, True], p=[0.9, 0.2, 0.25, 0.5, 0.5, NAN], y=[1, 0, 0, 1, 1, 1])
THREE = rows(
    ["a", "b", "c", "never"],
    y=["a", "a", "c", "a"],
    p=[[0.7, 0.2, 0.1], [0.6, 0.3, 0.1], [0.2, 0.2, 0.6], [0.5, 0.5, 0.0]],
)
VALUES = rows([10, 10, 0, 5, None], y=[10.0, 12.0, 1.0, NAN, 3.0])
REGRESSION = {"task": "regression"}
ABC = {"classes": ["a", "b", "c"]}
ABC_NUMBERS = {"classes": ["0", "1", "2"]}


@pytest.mark.parametrize(
    ("said", "table", "more", "losses"),
    [
        ({"metric": "error"}, CLASSES, {}, [0, 1, 0, 1, 0, None]),
        ({"metric": "miss_rate", **FRAUD}, CLASSES, {}, [0, 1, None, None, None, None]),
        ({"metric": "false_positive_rate", **FRAUD}, CLASSES, {}, [None, None, 0, 1, 0, None]),
        ({"metric": "false_discovery_rate", **FRAUD}, CLASSES, {}, [0, 0.5, 0.5, 1, 0.5, None]),
        ({"metric": "cost", "false_positive": 1, "false_negative": 20, **FRAUD}, CLASSES, {},
         [0, 1, 0, 0.05, 0, None]),
        ({"metric": "balanced_error"}, CLASSES, {}, [0, 1, 0, 0.6667, 0, None]),
        ({"metric": "cost", "costs": {"a": {"b": 1, "c": 2}, "b": {"a": 4, "c": 1},
          "c": {"a": 1, "b": 1}}}, THREE, {}, [0, 1, 0, 1]),
        ({"metric": "error", "output": "p"}, THREE, ABC, [0, 1, 0, 1]),
        ({"metric": "error", "output": "p", "threshold": 0.5}, BINARY, {},
         [0, 0, 1, None, None, 1]),
        ({"metric": "brier"}, BINARY, {}, [0.01, 0.04, 0.5625, None, None, 1]),
        ({"metric": "brier"}, THREE, ABC, [0.07, 0.43, 0.12, 1]),
        ({"metric": "log_loss"}, BINARY, {}, [0.0153, 0.0323, 0.2007, None, None, 1]),
        ({"metric": "top_k_error", "k": 2}, THREE, ABC, [0, 0, 0, 1]),
        ({"metric": "ranking"}, rows([1, 0, 1, 0, 1], p=[0.9, 0.5, 0.5, 0.1, 0.05]), {},
         [None, 0, None, 0.5, None]),
        ({"metric": "squared", "cap": 4}, VALUES, REGRESSION, [0, 0.25, 0.0625, 1, None]),
        ({"metric": "absolute", "cap": 4}, VALUES, REGRESSION, [0, 0.5, 0.25, 1, None]),
        ({"metric": "relative"}, VALUES, REGRESSION, [0, 0.2, 1, 1, None]),
        ({"metric": "pinball", "quantile": 0.9, "cap": 1}, VALUES, REGRESSION,
         [0, 0.2, 0.1, 1, None]),
        ({"metric": "coverage", "lower": "y", "upper": "hi"},
         rows([1, 5, 3], y=[0.0, 0.0, NAN], hi=[2.0, 2.0, 4.0]), REGRESSION, [0, 1, 1]),
        ({"metric": "set_coverage"},
         rows([0, 2, 1, 9, None], prediction_set=[[True, False, False], [True, True, False],
          [True, True, True], [True, True, True], [True, True, True]]), ABC_NUMBERS,
         [0, 1, 0, 1, None]),
        ({"metric": "error", "label": "approve"},
         rows([{"approve": 1, "amount": 3}, {"amount": 3}, 1], y=[0, 1, 1]), {}, [1, None, None]),
    ],
    ids=lambda value: value["metric"] if isinstance(value, dict) and "metric" in value else "",
)  # fmt: skip
def test_a_metric_is_a_loss_for_each_row(
    said: dict[str, Any], table: pa.Table, more: dict[str, Any], losses: list[float]
) -> None:
    assert judged(said, table, **more) == losses


def test_ranking_waits_for_a_negative_of_each_version() -> None:
    table = rows([1, 0, 1, 0], p=[0.9, 0.5, 0.1, 0.5])
    both = table.append_column("version", pa.array([1, 1, 2, 2]))
    alone = table.append_column("version", pa.array([1, 1, 2, 1]))
    assert judged({"metric": "ranking"}, both) == [0, None, 1, None]
    assert [x for x in judged({"metric": "ranking"}, alone) if x is not None] == []


@given(st.lists(st.booleans(), min_size=4, max_size=60), st.integers(0, 2**32 - 1))
def test_rows_judged_by_ranking_share_no_opponent(positive: list[bool], seed: int) -> None:
    """A changed score changes one loss at most, so that losses of independent rows are too."""
    rng = np.random.default_rng(seed)
    p, at = rng.random(len(positive)), int(rng.integers(len(positive)))
    changed = np.where(np.arange(len(p)) == at, 1.0 - p, p)
    before, after = (
        judged({"metric": "ranking"}, rows([int(x) for x in positive], p=list(each)))
        for each in (p, changed)
    )
    assert sum(a != b for a, b in zip(before, after, strict=True)) <= 1
    count = sum(x is not None for x in before)
    assert count == min(sum(positive), len(positive) - sum(positive))


binary = st.lists(st.tuples(st.booleans(), st.booleans()), min_size=2, max_size=60)


def _table(pairs: list[tuple[bool, bool]]) -> tuple[pa.Table, NDArray[Any], NDArray[Any]]:
    label, answer = np.array(pairs).astype(int).T
    return rows(label.tolist(), y=answer.tolist()), label, answer


@given(binary)
def test_the_mean_loss_is_the_metric_in_its_own_unit(pairs: list[tuple[bool, bool]]) -> None:
    table, label, answer = _table(pairs)
    wrong, positive = label != answer, label == 1
    expected = {
        "error": wrong.mean(),
        "balanced_error": np.mean([wrong[label == c].mean() for c in np.unique(label)]),
        "cost": (3 * (wrong & ~positive) + 8 * (wrong & positive)).mean(),
    }
    if positive.any():
        expected["miss_rate"] = wrong[positive].mean()
    if (~positive).any():
        expected["false_positive_rate"] = wrong[~positive].mean()
    if (answer == 1).any():
        expected["false_discovery_rate"] = wrong[answer == 1].mean()
    for metric, value in expected.items():
        costs = {"false_positive": 3, "false_negative": 8} if metric == "cost" else {}
        objective = parse_objective({"metric": metric, **costs}, "objective")
        rule = LossRule(spec(), None, objective, learn(spec(), objective, table))
        losses = rule.losses(table)
        assert rule.value(float(np.nanmean(losses))) == pytest.approx(value)


@given(binary, binary)
def test_the_false_discovery_rate_rises_if_and_only_if_its_loss_does(
    champion: list[tuple[bool, bool]], candidate: list[tuple[bool, bool]]
) -> None:
    past, label, answer = _table(champion)
    now, new_label, new_answer = _table(candidate)
    if not (answer == 1).any() or not (new_answer == 1).any():
        return
    objective = parse_objective("false_discovery_rate", "objective")
    rule = LossRule(spec(), None, objective, learn(spec(), objective, past))
    before = (label == 0)[answer == 1].mean()
    after = (new_label == 0)[new_answer == 1].mean()
    rise = rule.losses(now).mean() - rule.losses(past).mean()
    assert np.sign(round(float(rise), 9)) == np.sign(round(float(after - before), 9))


@given(
    st.lists(
        st.tuples(
            st.one_of(st.none(), st.booleans(), st.integers(-2, 3), st.floats(width=32), st.text()),
            st.one_of(st.none(), st.floats(width=32)),
        ),
        min_size=1,
    )
)
def test_every_loss_is_from_0_to_1_and_counts_by_its_label_alone(
    pairs: list[tuple[Any, float | None]],
) -> None:
    labels = [0.5 if isinstance(v, float) and not np.isfinite(v) else v for v, _ in pairs]
    table = rows(labels, y=pa.array([p for _, p in pairs], pa.float32()))
    other = rows(labels, y=pa.array([p and 0.5 for _, p in pairs], pa.float32()))
    own: dict[str, Any] = {
        "cost": {"false_positive": 1, "false_negative": 2}, "top_k_error": {"k": 1},
        "pinball": {"quantile": 0.3, "cap": 1}, "coverage": {"lower": "y", "upper": "y"},
        "set_coverage": {"output": "y"},
        "squared": {"cap": 1}, "absolute": {"cap": 1},
    }  # fmt: skip
    for metric, kind in METRICS.items():
        if kind.task == "generation":
            continue
        objective = parse_objective({"metric": metric, **own.get(metric, {})}, "objective")
        facts = {"unit": 1.0, "offset": 0.25, "scale": 1.0, "weight:1": 0.5}
        first, second = (
            LossRule(spec(task=kind.task), None, objective, facts).losses(t) for t in (table, other)
        )
        known = first[~np.isnan(first)]
        assert ((known >= 0) & (known <= 1)).all(), metric
        np.testing.assert_array_equal(np.isnan(first), np.isnan(second), metric)


def half(labels: Any, outputs: Any) -> Any:
    """A user's: half of the distance, for positive labels only."""
    return np.where(labels > 0, np.abs(outputs["y"] - labels) / 2, np.nan)


def broken(labels: Any, outputs: Any) -> Any:
    raise ValueError("no")


def outside(labels: Any, outputs: Any) -> Any:
    return labels * 0 + 7


def nothing(labels: Any, outputs: Any) -> Any:
    return labels * np.nan


def test_a_users_function_judges_labelled_rows() -> None:
    table = rows([1, None, 0, 1], y=[0, 1, 1, 1])
    assert judged({"metric": f"{__name__}:half"}, table) == [0.5, None, None, 0]


@pytest.mark.parametrize(
    ("name", "why"),
    [("broken", "raised ValueError: no"), ("outside", "outside"), ("nothing", "NaN for all 2")],
)
def test_a_function_that_does_not_judge_says_why(name: str, why: str) -> None:
    with pytest.raises(Rejected, match=why):
        judged({"metric": f"{__name__}:{name}"}, rows([1, 0], y=[1, 1]))


def test_measures_are_the_objective_its_guardrails_and_slices() -> None:
    table = rows([1, 0, 0, 1] * 10, y=[1, 0, 1, 0] * 10)
    table = table.append_column("in_tenure", pa.array([1, 2, 3, 4] * 10))
    own = spec(
        objective={"metric": "cost", "false_positive": 1, "false_negative": 4, "margin": "10%"},
        guardrails=[{"metric": "miss_rate", "margin": 0.05}],
        slices=[{"new": "tenure < 3"}, {"none": "tenure > 9"}],
    )
    found = measures_of(own, table, 0.02, 5)
    assert [m.name for m in found.all] == ["quality", "miss_rate", "slice new"]
    assert found.small == (("none", 0),)
    assert found.decisive is not None
    assert found.decisive.margin == pytest.approx(0.1 * (12.5 + 0.5) / 41)
    assert found.others[0].margin == 0.05
    cost, missed, new = (np.nansum(x) for x in all_losses(found.all, table))
    assert (cost, missed, new) == (12.5, 10, 0)
    again = [Measure.from_dict(own, json.loads(json.dumps(m.to_dict()))) for m in found.all]
    for one, other in zip(found.all, again, strict=True):
        np.testing.assert_array_equal(one.losses(table), other.losses(table))
        assert (one.name, one.margin) == (other.name, other.margin)


SIGNATURE = Signature(
    (TensorSpec("tenure", "INT64", (-1, 1)),),
    (TensorSpec("y", "BYTES", (-1,)), TensorSpec("probabilities", "FP32", (-1, 3))),
)


def test_the_output_with_probabilities_is_found() -> None:
    found = served_objectives(spec(objective="brier", classes=["a", "b", "c"]), SIGNATURE)
    assert found.objective is not None
    assert found.objective.output == "probabilities"
    assert served_objectives(spec(), SIGNATURE) == spec()


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ({"objective": {"metric": "brier", "output": "p"}}, "'p' is not in the graph"),
        ({"objective": "log_loss", "classes": ["a", "b"]}, "3 probabilities a row"),
        ({"objective": {"metric": "top_k_error", "k": 3}}, "are all there are"),
        ({"objective": "miss_rate"}, "say which class is `positive`"),
        ({"objective": {"metric": "miss_rate", "positive": "d"}, "classes": ["a", "b"]}, "'d'"),
        ({"objective": {"metric": "brier", "output": "y"}}, "has no floats"),
        ({"objective": "no_module_of_this_name:f"}, "cannot be imported"),
        ({"objective": "math:pi"}, "is not a function"),
        ({"guardrails": [{"metric": "error", "threshold": 0.5}]}, "`threshold`"),
        ({"task": "regression", "objective": "squared"}, "is BYTES"),
    ],
)
def test_what_the_outputs_cannot_serve_is_refused(said: dict[str, Any], why: str) -> None:
    with pytest.raises(Rejected, match=why):
        served_objectives(spec(**said), SIGNATURE)


@pytest.mark.parametrize("name", ["scorer", "judge"])
def test_a_scorer_or_judge_that_is_none_is_refused(name: str) -> None:
    def chat(named: str) -> ModelSpec:
        return ModelSpec("chat", "generation", "text", runtime="vllm", options={name: named})

    known = chat("math:sqrt")
    assert served_objectives(known, LANGUAGE.signature or SIGNATURE) == known
    for named, why in (
        ("no_module_of_this_name:f", "cannot be imported"),
        ("math:pi", "not a function"),
    ):
        with pytest.raises(Rejected, match=why):
            served_objectives(chat(named), LANGUAGE.signature or SIGNATURE)


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ({"objective": "accuracy"}, "metric 'accuracy' is unknown: error"),
        ({"objective": {"metric": "cost"}}, "needs `false_positive`"),
        ({"objective": {"metric": "error", "k": 3}}, "takes no `k`"),
        ({"objective": {"metric": "error", "margin": "ten"}}, "neither a number nor a share"),
        ({"objective": {"metric": "error", "margin": 0}}, "above 0"),
        ({"objective": {"metric": "error", "colour": 1}}, "objective.colour"),
        ({"objective": "squared"}, "is for regression"),
        ({"task": None, "output": None, "objective": "error"}, "no `task`"),
        ({"guardrails": "error"}, "must be a list"),
        ({"guardrails": ["error", "error"]}, "twice"),
        ({"objective": {"metric": "cost", "costs": {"a": {"b": 1}}}}, "does not say"),
    ],
)
def test_a_spec_that_makes_no_sense_is_refused(said: dict[str, Any], why: str) -> None:
    with pytest.raises(Rejected, match=why):
        spec(**said)
