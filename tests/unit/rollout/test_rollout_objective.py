"""A canary judged by its model's objective, guardrails and slices."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from driftloop_contracts.model import ModelSpec
from driftloop_evaluation.measures import Measures, measures_of
from driftloop_rollout.arm_rows import ArmRows, read_arm_rows
from driftloop_rollout.evidence import RolloutEvidence, extend, start
from driftloop_rollout.margins import Margins
from driftloop_rollout.verdict import Verdict

START = datetime(2026, 11, 24, 12, tzinfo=UTC)
US = round(START.timestamp() * 1e6)
MARGINS = Margins(0.02, 0.01, 0.1, 0.05, 0.0, 0.98)
RUNGS = (0.5,)


def spec(**more: Any) -> ModelSpec:
    value = {"name": "m", "task": "classification", "output": "y", **more}
    return ModelSpec.from_dict(value)


def table(n: int, wrong: Any, truth: Any, canary: Any, tenure: Any, seconds: float) -> pa.Table:
    """Requests of one row over `seconds`."""
    at = US + (np.arange(n) / n * seconds * 1e6).astype(np.int64)
    answer = np.where(wrong, 1 - truth, truth)
    return pa.table(
        {
            "predicted_at": pa.array(at).cast(pa.timestamp("us", tz="UTC")),
            "arm": np.where(canary, "canary", "stable").tolist(),
            "version": pa.array(np.where(canary, 2, 1), pa.int32()),
            "row": pa.array(np.zeros(n), pa.int32()),
            "latency_s": pa.array(np.full(n, 0.01)),
            "error": pa.nulls(n, pa.string()),
            "in_tenure": pa.array(tenure),
            "out_y": pa.array(answer, pa.int64()),
            "label": pa.array(truth.astype(int)).cast(pa.string()),
            "label_number": pa.array(truth, pa.float64()),
        }
    )


def drawn(n: int, seed: int, weight: float = 0.5) -> tuple[Any, Any, Any]:
    r = np.random.default_rng(seed)
    return r, r.random(n) < weight, r.integers(0, 10, n)


def verdict(
    own: ModelSpec, past: pa.Table, now: pa.Table, deadline_s: float = 1e9
) -> tuple[Verdict, RolloutEvidence]:
    measures = measures_of(own, past, MARGINS.quality, 50)

    def arms(rows: pa.Table) -> ArmRows:
        return read_arm_rows(rows, own, measures.scale, 1, 2, measures=measures.all)

    begun = start(own, MARGINS, RUNGS, arms(past), measures.scale, START, measures, deadline_s)
    assert begun is not None
    fresh = begun.with_step("r", 0.5, 300.0, START, True, START)
    rows, later = arms(now), START + timedelta(seconds=2_000)
    seen = extend(fresh, rows, rows, MARGINS, later)
    assert RolloutEvidence.from_dict(json.loads(json.dumps(seen.to_dict()))) == seen
    return seen.trial.judge(0, 1), seen


def sliced(
    n: int, seed: int, canary_error: float, in_slice: float, weight: float = 0.5
) -> pa.Table:
    """The champion errs in 10 % of all rows; a tenth of them has a tenure of 0."""
    r, canary, tenure = drawn(n, seed, weight)
    error = np.where(canary, np.where(tenure < 1, in_slice, canary_error), 0.1)
    truth = (r.random(n) < 0.5).astype(int)
    return table(n, r.random(n) < error, truth, canary, tenure, 1_000)


NEW = spec(slices=[{"new": "tenure < 1"}])


def test_harm_in_a_slice_rolls_back_though_the_average_improves() -> None:
    past = sliced(5_000, 1, 0.1, 0.1, weight=0.0)
    found, seen = verdict(NEW, past, sliced(20_000, 2, 0.05, 0.25))
    assert found.action == "roll_back"
    assert found.reason.startswith("slice new: canary 0.2")
    quality = seen.trial.metric("quality")
    assert quality is not None
    assert quality.difference is not None
    assert quality.difference < -0.02


def test_an_equal_canary_is_promoted_once_its_slices_are_proven_too() -> None:
    past = sliced(5_000, 1, 0.1, 0.1, weight=0.0)
    few, _ = verdict(NEW, past, sliced(12_000, 3, 0.05, 0.1))
    assert "slice new" in few.reason
    enough, seen = verdict(NEW, past, sliced(80_000, 4, 0.05, 0.1))
    assert (enough.action, enough.word) == ("promote", "better")
    assert [m.rule.name for m in seen.trial.metrics][-1] == "slice new"


def test_a_slice_too_small_for_a_verdict_is_not_waited_for_and_is_named() -> None:
    past = sliced(5_000, 1, 0.1, 0.1, weight=0.0)
    own = spec(slices=[{"new": "tenure < 1"}, {"none": "tenure > 9"}])
    found, _ = verdict(own, past, sliced(30_000, 3, 0.05, 0.1), deadline_s=100.0)
    assert found.action == "promote"
    assert found.reason.endswith("too few rows to tell: slice new, slice none (0 rows)")


def rare(n: int, seed: int, canary_recall: float, weight: float = 0.5) -> pa.Table:
    """.1 % positives, of which the champion finds 80 %; 1 % of the others are false alarms."""
    r, canary, tenure = drawn(n, seed, weight)
    truth = (r.random(n) < 0.001).astype(int)
    recall = np.where(canary, canary_recall, 0.8)
    wrong = r.random(n) < np.where(truth == 1, 1 - recall, 0.01)
    return table(n, wrong, truth, canary, tenure, 1_000)


COST = {"metric": "cost", "false_positive": 1, "false_negative": 50, "margin": "50%"}


def test_with_rare_positives_cost_sees_what_the_error_cannot() -> None:
    past = rare(20_000, 1, 0.8, weight=0.0)
    now = rare(300_000, 2, 0.2)
    assert verdict(spec(), past, now)[0].action == "promote"
    found, _ = verdict(spec(objective=COST), past, now)
    assert found.action == "roll_back"
    assert found.reason.startswith("quality")
    better, _ = verdict(spec(objective=COST), past, rare(300_000, 3, 0.98))
    assert better.action == "promote"


def test_a_guardrail_rolls_back() -> None:
    own = spec(guardrails=[{"metric": "miss_rate", "margin": 0.02}])
    r, canary, tenure = drawn(20_000, 5)
    truth = (r.random(20_000) < 0.1).astype(int)
    wrong = r.random(20_000) < np.where(canary & (truth == 1), 0.4, 0.1)
    past = table(5_000, wrong[:5_000] & ~canary[:5_000], truth[:5_000], canary[:5_000] & False,
                 tenure[:5_000], 1_000)  # fmt: skip
    found, _ = verdict(own, past, table(20_000, wrong, truth, canary, tenure, 1_000))
    assert found.action == "roll_back"
    assert "miss_rate: canary 0.4" in found.reason or found.reason.startswith("quality")


calls: list[int] = []


def fails_on_the_canary(labels: Any, outputs: Any) -> Any:
    calls.append(len(labels))
    if len(calls) > 2:
        raise RuntimeError("away")
    return (labels != outputs["y"]).astype(float)


def test_an_objective_that_fails_is_said_and_proves_nothing() -> None:
    past = sliced(5_000, 1, 0.1, 0.1, weight=0.0)
    found, seen = verdict(
        spec(objective=f"{__name__}:fails_on_the_canary"), past, sliced(20_000, 2, 0.05, 0.05)
    )
    assert found.action == "hold"
    assert "raised RuntimeError: away" in seen.problem
    assert {m.canary_count for m in seen.trial.metrics if m.rule.name == "quality"} == {0}


def test_without_labels_that_count_nothing_is_measured() -> None:
    own = spec(objective={"metric": "miss_rate", "positive": 1})
    with pytest.raises(Exception, match="none of 5000 rows counts"):
        measures_of(own, rare(5_000, 1, 1.0, 0.0).set_column(
            9, "label_number", pa.array(np.zeros(5_000))), 0.02, 50)  # fmt: skip
    assert measures_of(ModelSpec("m"), rare(10, 1, 1.0), 0.02, 50) == Measures(None)


OFFERS = spec(
    objective=[
        {"metric": "error", "label": "approve"},
        {"metric": "absolute", "label": "amount", "output": "amount"},
    ]
)


def offered(n: int, seed: int, off: float, weight: float = 0.5, amounts: int | None = None) -> Any:
    """approve is wrong in a tenth of the rows, the champion's amount by about 10, the canary's by
    about `off`; the first `amounts` rows have a label of it."""
    r, canary, tenure = drawn(n, seed, weight)
    truth = (r.random(n) < 0.5).astype(int)
    found = table(n, r.random(n) < 0.1, truth, canary, tenure, 1_000)
    amount = 300 + r.normal(0, 1, n) * np.where(canary, off, 10)
    found = found.append_column("out_amount", pa.array(amount))
    labels = [{"approve": int(v), "amount": 300} for v in truth]
    for label in labels[amounts:] if amounts is not None else ():
        del label["amount"]
    texts = pa.array([json.dumps(label) for label in labels])
    return found.set_column(8, "label", texts).set_column(9, "label_number", pa.nulls(n))


def test_each_of_several_objectives_must_be_proven() -> None:
    past = offered(5_000, 1, 10, weight=0.0)
    few, seen = verdict(OFFERS, past, offered(80, 2, 10))
    assert [m.rule.name for m in seen.trial.metrics][:2] == ["quality", "absolute amount"]
    assert [m.rule.decisive for m in seen.trial.metrics][:3] == [True, True, False]
    assert few.action == "hold"
    assert "quality (error approve): canary 0." in few.reason
    assert "absolute amount: canary" in few.reason
    enough, _ = verdict(OFFERS, past, offered(60_000, 3, 10))
    assert (enough.action, enough.word) == ("promote", "equivalent")


def test_harm_to_one_of_several_outputs_rolls_back_and_names_it() -> None:
    found, _ = verdict(OFFERS, offered(5_000, 1, 10, weight=0.0), offered(20_000, 2, 14))
    assert found.action == "roll_back"
    assert found.reason.startswith("absolute amount: canary")


def test_an_output_that_gets_better_makes_the_canary_better() -> None:
    found, _ = verdict(OFFERS, offered(5_000, 1, 10, weight=0.0), offered(60_000, 2, 7))
    assert (found.action, found.word) == ("promote", "better")


def test_rows_wait_for_the_labels_of_all_outputs() -> None:
    past = offered(5_000, 1, 10, weight=0.0)
    _, seen = verdict(OFFERS, past, offered(20_000, 2, 10, amounts=5_000))
    used = seen.coverage.canary + seen.coverage.stable
    assert 5_000 <= used < 5_200
