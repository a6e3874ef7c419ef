"""The newest labelled rows of a model are measured from time to time."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa

from driftloop_contracts.model import ModelSpec
from driftloop_monitoring.watch.live_metrics import LiveMetrics

START = datetime(2026, 11, 24, tzinfo=UTC)
SPEC = ModelSpec("m", "classification", "y")
MINUTE = timedelta(minutes=1)


def rows(first: int, n: int, right: bool) -> pa.Table:
    at = [START + timedelta(seconds=i) for i in range(first, first + n)]
    return pa.table(
        {
            "predicted_at": pa.array(at, pa.timestamp("us", tz="UTC")),
            "in_x": [1.0] * n,
            "out_y": [1] * n,
            "label": ["1" if right else "0"] * n,
            "label_number": [1.0 if right else 0.0] * n,
        }
    )


def accuracy(found: dict[str, Any] | None) -> float:
    assert found is not None
    value: float = found["outputs"][0]["metrics"]["accuracy"][0]
    return value


def test_the_newest_rows_are_measured_once_there_are_enough_and_then_once_a_minute() -> None:
    live = LiveMetrics(SPEC, least=30, most=100, every=MINUTE)
    assert live.after(1, rows(0, 20, True), START) is None
    first = live.after(1, rows(20, 20, True), START)
    assert accuracy(first) == 1.0
    assert first is not None
    assert (first["version"], first["rows"], first["since"]) == (1, 40, START.isoformat())
    assert live.after(1, rows(40, 80, False), START) is None
    later = live.after(1, rows(120, 0, True), START + MINUTE)
    assert accuracy(later) == 0.2
    assert later is not None
    assert later["rows"] == 100
    assert live.after(1, rows(120, 0, True), START + 2 * MINUTE) is None


def test_another_version_begins_anew() -> None:
    live = LiveMetrics(SPEC, least=30, most=100, every=MINUTE)
    assert live.after(1, rows(0, 60, True), START) is not None
    assert live.after(2, rows(60, 20, False), START + MINUTE) is None
    assert accuracy(live.after(2, rows(80, 20, False), START + MINUTE)) == 0.0
