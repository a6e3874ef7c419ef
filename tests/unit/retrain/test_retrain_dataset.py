from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from driftloop_contracts.errors import Rejected
from driftloop_retrain.tabular.dataset import (
    ALL,
    RECENT,
    SINCE_CHANGE,
    Dataset,
    dataset_of,
    from_file,
    input_tensors,
    spanned,
    spans,
    split,
)
from driftloop_settings import RetrainSettings

SETTINGS = RetrainSettings()
START = datetime(2026, 1, 1, tzinfo=UTC)


def rows(count: int) -> Dataset:
    """A row a second."""
    at = np.datetime64("2026-01-01", "us") + np.arange(count) * np.timedelta64(1, "s")
    return dataset_of(pa.table({"x": np.arange(count)}), np.arange(count), at, "test")


@given(st.integers(100, 20_000), st.floats(0, 1))
def test_parts_follow_each_other_in_time_and_lose_nothing(count: int, change: float) -> None:
    data = rows(count)
    parts = split(data, SETTINGS, START + timedelta(seconds=int(change * count)))
    joined = np.concatenate([parts.train.labels, parts.validation.labels, parts.holdout.labels])
    assert (joined == data.labels).all()
    assert parts.fit.rows == parts.train.rows + parts.validation.rows


def test_after_a_change_seventy_percent_of_the_fresh_rows_train() -> None:
    parts = split(rows(29_000), SETTINGS, START + timedelta(seconds=25_000))
    assert parts.fresh_from == 25_000
    assert parts.fit.rows - 25_000 >= 0.7 * 4_000
    assert parts.holdout.rows == 1_200
    assert parts.train.rows > 25_000


def test_recent_rows_weigh_as_much_as_all_older_ones() -> None:
    parts = split(rows(29_000), SETTINGS, START + timedelta(seconds=25_000))
    assert spans(parts) == (RECENT, ALL)
    weights = spanned(parts.train, RECENT, parts.fresh_from).weights
    assert weights[25_000:].sum() == pytest.approx(weights[:25_000].sum())
    assert weights.mean() == pytest.approx(1)


def test_fresh_rows_may_stand_alone_once_there_are_many() -> None:
    parts = split(rows(40_000), SETTINGS, START + timedelta(seconds=20_000))
    assert spans(parts) == (RECENT, ALL, SINCE_CHANGE)
    alone = spanned(parts.train, SINCE_CHANGE, parts.fresh_from)
    assert alone.labels[0] == 20_000


def test_without_a_change_there_is_one_span() -> None:
    assert spans(split(rows(1_000), SETTINGS, None)) == (ALL,)


def test_too_few_rows_are_refused() -> None:
    with pytest.raises(Rejected, match="too few"):
        split(rows(4), SETTINGS, None)


def test_a_file_is_read_in_time_order_with_a_tensor_for_each_column(tmp_path: Path) -> None:
    table = pa.table(
        {
            "when": pa.array([3, 1, 2], pa.timestamp("us")),
            "amount": pa.array([3.0, 1.0, None]),
            "kind": pa.array(["c", None, "b"]).dictionary_encode(),
            "known": [True, False, True],
            "sometimes": pa.array([1, None, 2]),
            "id": [7, 8, 9],
            "paid": pa.array([1, 0, None], pa.int8()),
        }
    )
    pq.write_table(table, tmp_path / "loans.parquet")
    data = from_file(tmp_path / "loans.parquet", "classification", "paid", "when", ("id",))
    assert data.labels.tolist() == [0, 1]
    assert data.features["kind"].to_pylist() == ["", "c"]
    assert [(t.name, t.datatype) for t in input_tensors(data.features)] == [
        ("amount", "FP32"),
        ("kind", "BYTES"),
        ("known", "BOOL"),
        ("sometimes", "FP32"),
    ]


@pytest.mark.parametrize(
    ("label", "drop", "message"),
    [("gone", (), "no column 'gone'"), ("y", (), "'when' is timestamp"), ("y", ("when",), None)],
)
def test_a_column_that_no_model_takes_is_named(
    tmp_path: Path, label: str, drop: tuple[str, ...], message: str | None
) -> None:
    table = pa.table(
        {"when": pa.array([1, 2], pa.timestamp("us")), "x": [1.0, 2.0], "y": ["a", "b"]}
    )
    pq.write_table(table, tmp_path / "t.parquet")
    if message is None:
        assert from_file(tmp_path / "t.parquet", "classification", label, None, drop).rows == 2
        return
    with pytest.raises(Rejected, match=message):
        from_file(tmp_path / "t.parquet", "classification", label, None, drop)
