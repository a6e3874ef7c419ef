"""The slices and guardrails of a model that the monitor tests, the worst first."""

from collections.abc import Mapping, Sequence
from math import exp
from typing import Any

from driftloop_console import words
from driftloop_console.tables import Column, Table
from driftloop_contracts.durations import in_short

Record = Mapping[str, Any]
MOST_LOG_E = 690.0


def slices_table(monitor: Record, normal: Mapping[str, float]) -> Table:
    """monitor: the monitor's state. normal: the mean error of each in the reference."""
    columns = (
        Column("slice", "Slice or guardrail"),
        Column("state", "State", "state"),
        Column("rows", "Labelled rows", "count"),
        Column("error", "Error", "number"),
        Column("reference", "Reference", "number"),
        Column("rise", "Rise", "number"),
        Column("evidence", "Evidence of a rise (e-value)", "number"),
    )
    rows = [_row(name, test, normal.get(name)) for name, test in monitor.get("tests", {}).items()]
    rows.sort(key=lambda row: (row["state"] != "alert", -(row["rise"] or 0.0), row["slice"]))
    empty = (
        "No slice is tested: name some under `slices` in the model's spec; each needs 200 labelled "
        "rows in the reference."
    )
    return Table("slices", columns, rows, empty)


def _row(name: str, test: Record, normal: float | None) -> dict[str, Any]:
    alert, rows = test.get("alert"), test.get("rows", 0)
    error = alert["mean_loss"] if alert else test["loss"] / rows if rows else None
    log_e = test.get("log_e")
    return {
        "slice": name.removeprefix("slice "),
        "state": "alert" if alert else "calm",
        "rows": rows,
        "error": error,
        "reference": normal,
        "rise": None if error is None or normal is None else error - normal,
        "evidence": None if log_e is None else exp(min(log_e, MOST_LOG_E)),
    }


def label_facts(
    monitor: Record, windows: Sequence[Record], lag_s: float | None
) -> dict[str, str | None]:
    """How many rows get a label, and how long that takes. windows: newest first."""
    delays = monitor.get("label_delays_s", ())
    known = sorted(delay for delay in delays if delay is not None)
    rows = sum(window["rows"] for window in windows)
    labelled = sum(window["labelled"] for window in windows)
    return {
        "Judged rows that had a label": words.share(len(known) / len(delays)) if delays else None,
        "From prediction to label, median": _duration(known, 0.5),
        "From prediction to label, 90 %": _duration(known, 0.9),
        "Judging by labels is behind by": None if lag_s is None else in_short(lag_s),
        "Rows below that had a label when their window closed": (
            words.share(labelled / rows) if rows else None
        ),
    }


def _duration(known: Sequence[float], share: float) -> str | None:
    """known: ascending."""
    return in_short(known[int(share * (len(known) - 1))]) if known else None
