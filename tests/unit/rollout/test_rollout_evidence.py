"""Which rows are used, when, and with which loss."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest

from driftloop_contracts.model import ModelSpec
from driftloop_evaluation.scales import SCALE_RMSE, scale_of
from driftloop_evaluation.settling import SETTLE, SILENCE
from driftloop_rollout.arm_rows import ArmRows, read_arm_rows
from driftloop_rollout.evidence import RolloutEvidence, extend, start
from driftloop_rollout.margins import Margins
from driftloop_rollout.units import NO_KEY

START = datetime(2026, 11, 24, 12, tzinfo=UTC)
US = round(START.timestamp() * 1e6)
CLASSES = ModelSpec("m", "classification", "label")
MARGINS = Margins(0.02, 0.01, 0.1, 0.05, None, 0.98)
RUNGS = (0.05, 0.25, 0.5)


def rows(
    n: int = 400,
    *,
    seconds: float = 10.0,
    labelled_until: float = 10.0,
    labelled: float = 1.0,
    rows_per_request: int = 2,
) -> ArmRows:
    """Return requests spread over `seconds`, every second one for the canary; every tenth row is
    wrong."""
    number = np.arange(n)
    request = number // rows_per_request
    at = (request / (n / rows_per_request) * seconds * 1e6).astype(np.int64)
    known = (at < labelled_until * 1e6) & ((number * 7919 % 100) < labelled * 100)
    return ArmRows(
        at=US + at,
        canary=request % 2 == 1,
        first=number % rows_per_request == 0,
        latency_s=np.full(n, 0.01),
        failed=np.zeros(n, dtype=bool),
        labelled=known,
        loss=np.where(known, (number % 10 == 0).astype(float), np.nan),
        malformed=np.full(n, np.nan),
        key=np.full(n, NO_KEY),
    )


@pytest.fixture
def fresh() -> RolloutEvidence:
    found = start(CLASSES, MARGINS, RUNGS, rows(), None, START)
    assert found is not None
    return found.with_step("r1", 0.5, 300.0, START, True, START)


def counts(evidence: RolloutEvidence) -> dict[str, tuple[int, int]]:
    return {m.rule.name: (m.canary_count, m.stable_count) for m in evidence.trial.metrics}


def after(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def test_the_past_is_the_stable_arms(fresh: RolloutEvidence) -> None:
    baseline = fresh.baseline
    assert baseline.slow_above_s == MARGINS.latency_floor_s
    assert baseline.quality_rate == pytest.approx(0.1, abs=0.05)
    assert baseline.rows_per_s == pytest.approx(40, rel=0.02)
    assert start(CLASSES, MARGINS, RUNGS, rows(40), None, START) is None


def test_each_row_is_used_once_however_often_one_looks(fresh: RolloutEvidence) -> None:
    seen, everything = fresh, rows()
    for second in range(1, 12):
        visible = everything.between(START, after(second))
        seen = extend(seen, visible, visible, MARGINS, after(second))
        assert extend(seen, visible, visible, MARGINS, after(second)) == seen
    seen = extend(seen, everything, everything, MARGINS, after(10) + SILENCE)
    assert counts(seen) == {"quality": (200, 200), "errors": (100, 100), "latency": (100, 100)}


def test_the_newest_second_is_left_for_rows_that_come_out_of_order(fresh: RolloutEvidence) -> None:
    seen = extend(fresh, rows(), rows(), MARGINS, after(10))
    newest = timedelta(microseconds=int(rows().at[-1]) - US)
    assert seen.requests_until == START + newest - SETTLE


def test_quality_is_held_while_labels_are_late_but_requests_are_judged(
    fresh: RolloutEvidence,
) -> None:
    unlabelled = rows(labelled_until=0.0)
    seen = extend(fresh, unlabelled, unlabelled, MARGINS, after(10))
    assert counts(seen)["quality"] == (0, 0)
    assert counts(seen)["errors"][0] > 0
    assert "labels are late: 0%" in seen.waiting
    assert seen.labels_until == START


def test_quality_is_used_up_to_where_the_labels_are(fresh: RolloutEvidence) -> None:
    late = rows(labelled_until=6.0)
    seen = extend(fresh, late, late, MARGINS, after(10))
    assert after(5.9) < seen.labels_until < after(6.2)
    canary, stable = counts(seen)["quality"]
    assert canary == pytest.approx(120, abs=4)
    assert stable == pytest.approx(120, abs=4)


def test_what_was_labelled_first_is_not_judged_alone(fresh: RolloutEvidence) -> None:
    """If errors were labelled faster than successes, any canary would be rolled back."""
    everything = rows()
    wrong = everything.loss == 1.0
    early = replace(everything, labelled=wrong, loss=np.where(wrong, 1.0, np.nan))
    seen = extend(fresh, early, early, MARGINS, after(10))
    assert counts(seen)["quality"][0] == 0


def test_partial_labels_count_at_the_age_by_which_all_have_come(fresh: RolloutEvidence) -> None:
    some = rows(labelled=0.4)
    assert counts(extend(fresh, some, some, MARGINS, after(10)))["quality"] == (0, 0)
    aged = replace(MARGINS, label_age_s=5.0)
    seen = extend(fresh, some, some, aged, after(10))
    assert seen.labels_until <= after(5)
    assert counts(seen)["quality"][0] > 20


def test_the_first_few_labels_alone_are_not_used(fresh: RolloutEvidence) -> None:
    """They could be the rows that are labelled fastest, and those could be the errors."""
    few = rows(labelled_until=1.0)
    seen = extend(fresh, few, few, MARGINS, after(10))
    assert counts(seen)["quality"] == (0, 0)


def test_unequal_coverage_is_never_compared(fresh: RolloutEvidence) -> None:
    everything = rows()
    labelled = ~everything.canary | (np.arange(400) % 5 == 0)
    uneven = replace(
        everything, labelled=labelled, loss=np.where(labelled, everything.loss, np.nan)
    )
    seen = extend(fresh, uneven, uneven, replace(MARGINS, label_age_s=1.0), after(30))
    assert counts(seen)["quality"] == (0, 0)
    assert "20% of the canary's and 100% of the stable ones" in seen.waiting


def test_a_failed_request_counts_once_whatever_its_rows(fresh: RolloutEvidence) -> None:
    many = rows(rows_per_request=20)
    failed = replace(many, failed=many.canary, labelled=~many.canary)
    seen = extend(fresh, failed, failed, MARGINS, after(10) + SILENCE)
    errors = next(m for m in seen.trial.metrics if m.rule.name == "errors")
    assert (errors.canary_sum, errors.canary_count) == (10.0, 10)
    assert seen.trial.harmed() == errors


def test_late_labels_catch_up_from_a_slice_of_the_past(fresh: RolloutEvidence) -> None:
    ahead = replace(fresh, requests_until=after(10))
    nothing = rows().between(after(50), after(60))
    seen = extend(ahead, nothing, rows(), MARGINS, after(4_000))
    assert seen.requests_until == after(10)
    assert counts(seen)["quality"] == (200, 200)


def table(**columns: object) -> pa.Table:
    n = len(columns["label"])  # type: ignore[arg-type]
    fixed: dict[str, object] = {
        "prediction_id": pa.array([f"p{i}" for i in range(n)]),
        "row": pa.array([0] * n, pa.int32()),
        "version": pa.array([1] * n, pa.int32()),
        "arm": pa.array(["stable"] * n),
        "predicted_at": pa.array([START] * n, pa.timestamp("us", "UTC")),
        "latency_s": pa.array([0.1] * n, pa.float32()),
        "error": pa.array([None] * n, pa.string()),
        "label_number": pa.array([None] * n, pa.float64()),
    }
    return pa.table(
        {**fixed, **{k: v if isinstance(v, pa.Array) else pa.array(v) for k, v in columns.items()}}  # type: ignore[arg-type]
    )


def test_classes_lose_by_being_wrong() -> None:
    found = read_arm_rows(
        table(
            out_label=[1, 0, 1, None], label=["1", "1", None, "0"], label_number=[1.0, 1, None, 0]
        ),
        CLASSES,
        None,
        1,
        2,
    )
    np.testing.assert_array_equal(found.loss, [0.0, 1.0, np.nan, np.nan])
    np.testing.assert_array_equal(found.labelled, [True, True, False, True])


def test_classes_may_be_texts() -> None:
    found = read_arm_rows(
        table(out_label=["a", "b", "a"], label=['"a"', '"a"', "null"]), CLASSES, None, 1, 2
    )
    np.testing.assert_array_equal(found.loss, [0.0, 1.0, np.nan])


def test_values_lose_by_their_squared_error_up_to_one() -> None:
    spec = ModelSpec("m", "regression", "value")
    answers = table(
        out_value=pa.array([1.0, 2.0, 90.0], pa.float32()),
        label=["1", "1", "1"],
        label_number=[1.0, 1.0, 1.0],
    )
    np.testing.assert_allclose(read_arm_rows(answers, spec, 2.0, 1, 2).loss, [0.0, 0.25, 1.0])
    assert np.isnan(read_arm_rows(answers, spec, None, 1, 2).loss).all()


def test_the_scale_of_an_error_needs_enough_rows() -> None:
    many = table(out_value=pa.array([3.0] * 200), label=["1"] * 200, label_number=[1.0] * 200)
    spec = ModelSpec("m", "regression", "value")
    assert scale_of(spec, many, min_rows=100) == pytest.approx(SCALE_RMSE * 2.0)
    assert scale_of(spec, many.slice(0, 10), min_rows=100) is None


def test_callers_who_named_a_version_are_no_evidence() -> None:
    answers = table(
        out_label=[1, 1, 1, 1],
        label=["1"] * 4,
        arm=["stable", "pinned", "canary", "canary"],
        version=pa.array([1, 1, 2, 3], pa.int32()),
    )
    found = read_arm_rows(answers, CLASSES, None, 1, 2)
    np.testing.assert_array_equal(found.canary, [False, True])


def test_a_model_without_a_task_is_judged_on_errors_and_latency_in_full() -> None:
    found = start(ModelSpec("m"), MARGINS, RUNGS, rows(), None, START)
    assert found is not None
    assert not found.quality_is_judged
    assert [m.rule.decisive for m in found.trial.metrics] == [True, True]
    seen = extend(found, rows(), rows(), MARGINS, after(10))
    assert seen.waiting == ""
