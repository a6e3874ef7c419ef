import numpy as np
import pyarrow as pa
import pytest

from driftloop_contracts.kind import Task
from driftloop_retrain.tabular.data_warnings import data_warnings
from driftloop_retrain.tabular.dataset import dataset_of, split
from driftloop_settings import RetrainSettings


def warned(labels: list[object], task: Task) -> list[str]:
    rows = len(labels)
    data = dataset_of(
        pa.table({"x": np.arange(float(rows))}),
        np.array(labels, object if isinstance(labels[0], str) else None),
        np.arange(rows).astype("datetime64[us]"),
        "a test",
    )
    return data_warnings(split(data, RetrainSettings(), None), task)


def test_thirty_rows_are_few_and_the_numbers_are_said() -> None:
    (rows,) = warned([0, 1] * 15, "classification")
    assert "26 to train on, 4 held out" in rows
    assert "± 49 points" in rows
    assert "1,500 rows" in rows


def test_a_regression_has_no_accuracy() -> None:
    (rows,) = warned([0.5] * 30, "regression")
    assert "points" not in rows


def test_a_rare_class_is_named() -> None:
    assert warned(["a", "b"] * 999 + ["c", "a"], "classification") == []
    (rare,) = warned(["c"] * 3 + ["a", "b"] * 1000, "classification")
    assert "'c': 3" in rare


@pytest.mark.parametrize("task", ["classification", "regression"])
def test_enough_rows_are_no_warning(task: Task) -> None:
    assert warned([0, 1] * 1000, task) == []
