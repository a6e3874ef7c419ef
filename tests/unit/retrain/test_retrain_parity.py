import numpy as np
import pyarrow as pa
import pytest

from driftloop_retrain.tabular.parity import ParityBroken, check_parity

FEATURES = pa.table({"age": [30, 40], "job": ["cook", "smith"]})


def outputs(labels: list[int], odds: list[list[float]]) -> dict[str, np.ndarray]:
    return {"label": np.array(labels), "probabilities": np.array(odds, np.float32)}


def test_a_mismatch_names_the_row_and_its_columns() -> None:
    ours = outputs([0, 1], [[0.9, 0.1], [0.2, 0.8]])
    theirs = outputs([0, 1], [[0.9, 0.1], [0.3, 0.7]])
    with pytest.raises(ParityBroken, match=r"row 1.*'job': 'smith'"):
        check_parity(FEATURES, ours, theirs, 1e-4)


def test_a_class_may_differ_where_both_are_as_likely() -> None:
    odds = [[0.9, 0.1], [0.5, 0.5]]
    assert check_parity(FEATURES, outputs([0, 0], odds), outputs([0, 1], odds), 1e-4).rows == 2
    odds = [[0.9, 0.1], [0.4, 0.6]]
    with pytest.raises(ParityBroken, match="label"):
        check_parity(FEATURES, outputs([0, 1], odds), outputs([0, 0], odds), 1e-4)


def test_not_a_number_is_a_mismatch_unless_on_both_sides() -> None:
    nan, one = ({"value": np.array([v, 1.0], np.float32)} for v in (np.nan, 1.0))
    assert check_parity(FEATURES, nan, nan, 1e-4).largest_difference == 0
    with pytest.raises(ParityBroken):
        check_parity(FEATURES, one, nan, 1e-4)


def test_a_missing_output_is_named() -> None:
    with pytest.raises(ParityBroken, match="no output 'value'"):
        check_parity(FEATURES, {"value": np.zeros(2, np.float32)}, {}, 1e-4)
