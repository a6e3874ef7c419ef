"""The drift of a model's columns over time, as small multiples with the reference behind them."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from driftloop_console.charts import Chart, Series

Record = Mapping[str, Any]
Sketch = Sequence[float | None]
"""How far a column moved, its share of missing values, and what is shown of it."""
MOST_COLUMNS = 24
"""Small multiples of the columns that moved most."""
MOST_POINTS = 60
MOST_CATEGORIES = 2
DRIFT = ("drift", "prediction_drift")
INPUT, OUTPUT = "in_", "out_"
PERCENTILES = 3


def shown_windows(windows: Sequence[Record]) -> list[str]:
    """The ids of at most MOST_POINTS of those that may have a sketch, evenly, the newest among
    them. windows: newest first."""
    judged = [w["window_id"] for w in windows if w["status"] == "judged" and w["kind"] != "labels"]
    return judged[:: max(1, -(-len(judged) // MOST_POINTS))]


def sketch_charts(sketches: Sequence[Record], references: Mapping[int, Record]) -> list[Chart]:
    """Of each column, those first that moved most in the newest window. Numbers: the median and
    90 % of the values; categories: the shares of those that moved most. sketches: newest first.
    references: by version, what the windows of a version are compared with."""
    if not sketches:
        return []
    newest = sketches[0]["columns"]
    order = sorted(newest, key=lambda name: (-(newest[name][0] or 0.0), name))[:MOST_COLUMNS]
    shown = list(reversed(sketches))
    x = tuple(_seconds(one["at"]) for one in shown)
    return [chart for name in order if (chart := _chart(name, x, shown, references)) is not None]


def _chart(
    name: str,
    x: tuple[float, ...],
    sketches: Sequence[Record],
    references: Mapping[int, Record],
) -> Chart | None:
    versions = [one["version"] for one in sketches]
    columns = {v: references.get(v, {}).get("columns", {}).get(name) for v in set(versions)}
    known = columns[versions[-1]]
    if known is None:
        return None
    of_window: list[Sketch | None] = [one["columns"].get(name) for one in sketches]
    of_reference = [(columns[version] or {}).get("shown") for version in versions]
    newest = of_window[-1]
    moved = f"moved {newest[0]:.2f}" if newest and newest[0] is not None else ""
    number = known["kind"] == "number"
    series = _percentiles(of_window, of_reference) if number else _shares(
        known["names"], of_window, of_reference
    )  # fmt: skip
    return Chart(f"{_name(name)}: {moved}", x, tuple(series), small=True)


def _name(column: str) -> str:
    if column.startswith(OUTPUT):
        return f"{column.removeprefix(OUTPUT)} (answer)"
    return column.removeprefix(INPUT)


def _percentiles(
    windows: Sequence[Sketch | None], references: Sequence[Sketch | None]
) -> Iterator[Series]:
    low, median, high = (
        tuple([one[place] if one and place < len(one) else None for one in references])
        for place in range(PERCENTILES)
    )
    yield Series("Reference, 5 %", low, "low")
    yield Series("Reference, 95 %", high, "high")
    yield Series("Reference, median", median, "limit")
    yield Series("Median", _at(windows, 1))
    yield Series("5 %", _at(windows, 0), "edge")
    yield Series("95 %", _at(windows, 2), "edge")


def _shares(
    names: Sequence[str], windows: Sequence[Sketch | None], references: Sequence[Sketch | None]
) -> Iterator[Series]:
    known, newest = references[-1] or (), windows[-1] or ()

    def change(place: int) -> float:
        now = newest[place + 2] if place + 2 < len(newest) else None
        return abs((now or 0.0) - (known[place] or 0.0)) if place < len(known) else 0.0

    for place in sorted(range(len(names)), key=lambda p: (-change(p), p))[:MOST_CATEGORIES]:
        behind = tuple(one[place] if one and place < len(one) else None for one in references)
        yield Series(f"Reference: {names[place]}", behind, "limit")
        yield Series(names[place], _at(windows, place))


def _at(windows: Sequence[Sketch | None], place: int) -> tuple[float | None, ...]:
    place += 2  # a list: a generator takes half as long again
    return tuple([one[place] if one and place < len(one) else None for one in windows])


def drift_charts(
    findings: Sequence[Record], windows: Sequence[Record], limit: float
) -> list[Chart]:
    """For each column that moved, its distance from the reference in each window, the largest
    first. Below `limit`, `monitoring.drift_effect`, a distance is not recorded."""
    ends = {w["window_id"]: _seconds(w["ended_at"]) for w in reversed(windows)}
    by_column: dict[str, dict[str, float]] = {}
    for finding in findings:
        if finding["kind"] in DRIFT and finding["window_id"] in ends:
            for column in finding["columns"]:
                by_column.setdefault(column, {})[finding["window_id"]] = finding["effect"]
    largest = sorted(by_column, key=lambda column: (-max(by_column[column].values()), column))
    x = tuple(ends.values())
    return [
        Chart(
            column,
            x,
            (
                Series("Distance", tuple(by_column[column].get(id_) for id_ in ends)),
                Series("Threshold", (limit,) * len(x), "limit"),
            ),
            small=True,
        )
        for column in largest[:MOST_COLUMNS]
    ]


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()
