"""What a graph's answers depend on: all columns, by shuffling; single rows, by Shapley values.

Both ask the graph only, so they are of what is served, whatever the recipe.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from driftloop_retrain.tabular.dataset import Dataset
from driftloop_retrain.tabular.evaluation.intervals import gain

ROWS, COLUMNS = 1_000, 40
"""The newest rows, and the columns at most, that importance is measured on."""
WALKS = 60
"""Orders in which columns are replaced, for each row that is explained."""

Losses = NDArray[np.float64]
Lost = Callable[[pa.Table], Losses]
Score = Callable[[pa.Table], NDArray[np.float64]]
"""One number [n] for each row: the probability of a class, or the value."""


def importance(rows: Dataset, lost: Lost, before: Lost | None) -> list[dict[str, Any]]:
    """The rise of the loss if a column is shuffled, by column, the largest first. `was`: the same
    of the champion, None without one."""
    rows = rows.slice(max(0, rows.rows - ROWS), rows.rows)
    order = pa.array(np.random.default_rng(0).permutation(rows.rows))
    plain = lost(rows.features)
    former = None if before is None else before(rows.features)
    found = []
    for number, column in enumerate(rows.features.column_names[:COLUMNS]):
        shuffled = rows.features.set_column(number, column, rows.features[column].take(order))
        rise = gain(lost(shuffled), plain)
        was = gain(before(shuffled), former) if before and former is not None else {}
        found.append(
            {
                "column": column,
                "rise": rise.get("mean", 0.0),
                "low": rise.get("low", 0.0),
                "high": rise.get("high", 0.0),
                "was": was.get("mean"),
                "moved": rise["mean"] - was["mean"] if rise and was else None,
            }
        )
    return sorted(found, key=lambda each: -each["rise"])


def contributions(
    background: pa.Table, row: pa.Table, score: Score
) -> tuple[float, list[dict[str, Any]]]:
    """(the mean score of the background, Shapley values of one row by column, the largest first):
    the mean change of the score when a column takes the row's value, over random orders of columns
    and rows of the background (Štrumbelj and Kononenko, 2014). Their sum is about the row's score
    less the mean."""
    random = np.random.default_rng(0)
    names = row.column_names[:COLUMNS]
    starts = random.integers(0, background.num_rows, WALKS)
    orders = [random.permutation(len(names)) for _ in range(WALKS)]
    both = pa.concat_tables([background.take(pa.array(starts)), row])
    # Row i·(columns + 1) + j of the request: the i-th start with the first j columns replaced.
    steps = len(names) + 1
    columns = {}
    for number, name in enumerate(both.column_names):
        source = np.repeat(np.arange(WALKS), steps)
        if number < len(names):
            for i, order in enumerate(orders):
                since = int(np.flatnonzero(order == number)[0]) + 1
                source[i * steps + since : (i + 1) * steps] = WALKS
        columns[name] = both[name].take(pa.array(source))
    scores = score(pa.table(columns)).reshape(WALKS, steps)
    changes = np.zeros((WALKS, len(names)))
    for i, order in enumerate(orders):
        changes[i, order] = np.diff(scores[i])
    means = changes.mean(axis=0)
    found = [
        {"column": name, "value": str(row[name][0].as_py()), "contribution": float(value)}
        for name, value in zip(names, means, strict=True)
    ]
    found.sort(key=lambda each: -abs(each["contribution"]))
    return float(scores[:, 0].mean()), found
