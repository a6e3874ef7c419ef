"""The objective that fits a model's labels."""

from driftloop_evaluation.suggestion import suggested_objective


def test_a_rare_class_asks_for_an_objective_that_sees_it() -> None:
    assert suggested_objective("classification", {"no": 970, "yes": 30}) == {
        "metric": "balanced_error"
    }
    assert suggested_objective("classification", {"a": 50, "b": 45, "c": 5}) is not None


def test_the_default_fits_where_classes_are_common_or_labels_are_values() -> None:
    assert suggested_objective("classification", {0: 600, 1: 400}) is None
    assert suggested_objective("classification", {0: 600}) is None
    assert suggested_objective("regression", {}) is None
    assert suggested_objective(None, {}) is None
