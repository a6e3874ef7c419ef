"""Without an objective, how rare a class is decides what a model is judged by."""

import pytest

from driftloop_evaluation.chosen_objective import chosen_objective


@pytest.mark.parametrize(
    ("counts", "metric", "why"),
    [
        ({"0": 900, "1": 600}, None, "40.0% of the rows"),
        ({"no": 9_960, "fraud": 40}, "balanced_error", "fraud is 0.40%"),
        ({"a": 5_000, "b": 5_000, "c": 100}, "balanced_error", "c is 0.99%"),
        ({"0": 9_995, "1": 5}, None, "5 rows, too few"),
        ({"0": 400, "1": 10}, None, "410 labels"),
        ({"0": 4_000}, None, "4,000 labels"),
    ],
)
def test_the_rarest_class_decides(counts: dict[str, int], metric: str | None, why: str) -> None:
    labels = [name for name, rows in counts.items() for _ in range(rows)]
    objective, told = chosen_objective([*labels, None])
    assert (objective and objective.metric) == metric
    assert why in told
