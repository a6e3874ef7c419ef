"""The metrics of a model's newest labelled rows, as the monitor measured them."""

from collections.abc import Mapping
from typing import Any

from driftloop_console.tables import Column, Table
from driftloop_contracts.model import ModelSpec

Record = Mapping[str, Any]


def metrics_table(monitor: Record) -> Table:
    """monitor: the monitor's state of a model."""
    columns = (
        Column("output", "Output"),
        Column("metric", "Metric"),
        Column("value", "Value", "number"),
        Column("low", "95 % from", "number"),
        Column("high", "to", "number"),
    )
    rows = [
        {"output": _title(one), "metric": name, "value": value, "low": low, "high": high}
        for one in _outputs(monitor)
        for name, (value, low, high) in one["metrics"].items()
    ]
    empty = "No metrics yet: they need labels. Send them with `POST /feedback`."
    return Table("metrics", columns, rows, empty)


def confusion_table(monitor: Record) -> Table | None:
    """A row for each pair of a label and an answer that was seen; None without classes."""
    columns = (
        Column("output", "Output"),
        Column("label", "Label"),
        Column("answer", "Answer"),
        Column("rows", "Rows", "count"),
        Column("share", "Share of the label", "share"),
    )
    rows = [
        {
            "output": _title(one),
            "label": label,
            "answer": answer,
            "rows": count,
            "share": count / sum(counts),
        }
        for one in _outputs(monitor)
        for label, counts in zip(one["classes"], one["confusion"], strict=True)
        for answer, count in zip(one["classes"], counts, strict=True)
        if count
    ]
    return Table("confusion", columns, rows, "") if rows else None


def metrics_note(monitor: Record, spec: ModelSpec) -> str:
    """What decides, and which rows were measured."""
    found, judged_by = monitor.get("measured"), f"Judged by {spec.judged_in_words}."
    if not found:
        return judged_by
    return (
        f"{judged_by} Of the newest {found['rows']:,} labelled rows of version {found['version']}, "
        f"{found['since'][:19]} to {found['until'][:19]}; they decide nothing."
    )


def _outputs(monitor: Record) -> list[Record]:
    return list((monitor.get("measured") or {}).get("outputs", ()))


def _title(output: Record) -> str:
    name, label = str(output["output"]), output["label"]
    return name if label in (None, name) else f"{name} (label {label})"
