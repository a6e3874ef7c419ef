import numpy as np
import pyarrow as pa
import pytest

from driftloop_evaluation.labels import Labels
from driftloop_evaluation.scales import SCALE_RMSE, error_scale, errors, rmse

OUTPUTS = pa.array([3.0, 1.0, None, float("inf"), float("nan"), 9.0])
LABELS = Labels.of_values(np.array([1.0, 3.0, 0.0, 0.0, 0.0, np.nan]))


def test_errors_are_those_of_rows_that_have_both_values() -> None:
    assert errors(OUTPUTS, LABELS).tolist() == [2.0, -2.0]
    assert errors(pa.array(["3.0"]), Labels.of_values(np.array([3.0]))).size == 0


def test_one_answer_that_is_not_finite_does_not_make_all_errors_small() -> None:
    assert error_scale(OUTPUTS, LABELS) == SCALE_RMSE * 2.0


def test_a_scale_needs_rows_and_an_error() -> None:
    assert error_scale(OUTPUTS, LABELS, min_rows=3) is None
    assert error_scale(OUTPUTS[:0], Labels.of_values(np.empty(0))) is None
    assert error_scale(pa.array([1.0]), Labels.of_values(np.array([1.0]))) is None


def test_the_root_mean_squared_error() -> None:
    assert rmse(np.array([3.0, -4.0])) == pytest.approx(np.sqrt(12.5))
    assert rmse(np.empty(0)) is None
