"""What is kept of a window's columns for charts."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest

from driftloop_monitoring.statistics.columns import Column
from driftloop_monitoring.statistics.label_delays import LABEL_DELAYS, newest_delays
from driftloop_monitoring.statistics.sketches import (
    MOST_COLUMNS,
    reference_sketches,
    window_sketch,
)

RANDOM = np.random.default_rng(7)
NUMBERS = RANDOM.normal(size=2_000)


def number(values: np.ndarray, name: str = "x") -> dict[str, Column]:
    return {name: Column(name, "number", np.asarray(values, dtype=np.float64))}


def category(*values: str | None) -> dict[str, Column]:
    return {"c": Column("c", "category", np.array(values, dtype=object))}


def test_the_same_rows_did_not_move_and_shifted_ones_did() -> None:
    known = reference_sketches(number(NUMBERS))
    (calm,) = window_sketch(known, number(NUMBERS)).values()
    (shifted,) = window_sketch(known, number(NUMBERS + 1.0)).values()
    assert calm[0] == 0.0
    assert shifted[0] == pytest.approx(0.38, abs=0.03)  # of two normals, one deviation apart
    assert shifted[3] == pytest.approx(1.0 + float(np.median(NUMBERS)), abs=0.001)
    assert list(known["x"].to_dict()["shown"]) == calm[2:]


def test_missing_values_count_as_moved_and_infinite_ones_are_missing() -> None:
    known = reference_sketches(number(NUMBERS))
    gone = np.where(np.arange(2_000) % 2 == 0, np.nan, NUMBERS)
    (half,) = window_sketch(known, number(gone)).values()
    assert half[:2] == [pytest.approx(0.5, abs=0.02), 0.5]
    (nothing,) = window_sketch(known, number(np.full(10, np.inf))).values()
    assert nothing == [1.0, 1.0, None, None, None]


def test_a_constant_is_seen_to_move() -> None:
    known = reference_sketches(number(np.zeros(100)))
    (moved,) = window_sketch(known, number(np.ones(100))).values()
    assert moved[0] == 1.0


def test_numbers_with_few_values_are_categories() -> None:
    known = reference_sketches(number(np.arange(100) % 4 == 0))
    assert known["x"].to_dict() == {"kind": "category", "names": ["0", "1"], "shown": [0.75, 0.25]}
    (found,) = window_sketch(known, number(np.arange(100) % 2)).values()
    assert found == [0.25, 0.0, 0.5, 0.5]


def test_shares_of_frequent_categories_are_kept_and_rare_ones_are_not_named() -> None:
    people = [f"person {n}" for n in range(200)]
    known = reference_sketches(category(*["a"] * 500, *["b"] * 300, *people))
    assert known["c"].to_dict() == {"kind": "category", "names": ["a", "b"], "shown": [0.5, 0.3]}
    (found,) = window_sketch(known, category(*["b"] * 5, *["new"] * 4, None)).values()
    assert found == [0.5, 0.1, 0.0, 0.5]


def test_of_many_columns_those_that_moved_most_are_kept() -> None:
    columns = {f"x{n}": number(NUMBERS, f"x{n}")[f"x{n}"] for n in range(MOST_COLUMNS + 9)}
    window = dict(columns) | {"x70": number(NUMBERS + 3.0, "x70")["x70"]}
    found = window_sketch(reference_sketches(columns), window)
    assert (len(found), next(iter(found))) == (MOST_COLUMNS, "x70")


def test_the_newest_delays_of_labels_are_kept() -> None:
    at = datetime(2026, 11, 29, tzinfo=UTC)
    time = pa.timestamp("us", tz="UTC")
    labelled = [at + timedelta(seconds=n) if n % 2 else None for n in range(1_000)]
    rows = pa.table({
        "predicted_at": pa.array([at] * 1_000, time), "label_at": pa.array(labelled, time),
    })  # fmt: skip
    delays = newest_delays((7.0,), rows)
    assert len(delays) == LABEL_DELAYS
    assert 7.0 not in delays
    assert delays[-1] == 999.0
    assert newest_delays((7.0,), rows[:0]) == (7.0,)
    assert newest_delays((7.0,), rows[1:2]) == (7.0, 1.0)
