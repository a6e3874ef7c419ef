"""A candidate that is no better than a constant does not pass, whatever the champion does."""

import numpy as np

from driftloop_retrain.record.gate_result import GateResult
from driftloop_retrain.tabular.baseline import constant_outputs, with_baseline

PASSED = GateResult("passed", ())


def test_the_constant_answers_what_was_most_frequent() -> None:
    outputs = {
        "label": np.array(["a", "b", "a"], dtype=object),
        "probabilities": np.full((3, 2), 0.5, np.float32),
    }
    labels = np.array(["b", "b", "b", "a"], dtype=object)
    found = constant_outputs(labels, outputs)
    assert found["label"].tolist() == ["b", "b", "b"]
    np.testing.assert_allclose(found["probabilities"], [[0.25, 0.75]] * 3)
    values = constant_outputs(np.array([1.0, 3.0]), {"value": np.zeros(2, np.float32)})
    assert values["value"].tolist() == [2.0, 2.0]


def test_a_candidate_must_be_better_than_it() -> None:
    worse, better = np.full(200, 0.5), np.full(200, 0.4)
    assert with_baseline(PASSED, better, worse) == PASSED
    refused = with_baseline(PASSED, worse, better)
    assert refused.verdict == "failed"
    assert "baseline: no better than the same answer for every row" in refused.reasons[0]
    assert with_baseline(PASSED, better, better).verdict == "failed"


def test_rows_that_do_not_count_and_few_rows_decide_nothing() -> None:
    losses = np.array([0.1, np.nan, 0.3])
    assert with_baseline(PASSED, losses, np.array([0.2, 0.0, 0.3])) == PASSED
    unsure = GateResult("inconclusive", ())
    assert with_baseline(unsure, losses, losses) == unsure
