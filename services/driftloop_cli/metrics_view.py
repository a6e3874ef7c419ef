"""Formats the metrics of labelled rows for people."""

from typing import Any

from rich.text import Text

from driftloop_cli.table_layout import Rows
from driftloop_cli.terminal import styled

Record = dict[str, Any]


def metrics_view(document: Record, width: int | None) -> list[Text]:
    """Return the lines of `GET /api/models/NAME/metrics`."""
    outputs, judged_by = document["outputs"], Text(f"judged by {document['judged_by']}")
    if not outputs:
        why = "there are no metrics yet: they need labelled rows (`driftloop labels NAME`)"
        return [judged_by, Text(why)]
    since, until = (document[end][:19] for end in ("since", "until"))
    head = f"version {document['version']}, {document['rows']:,} labelled rows, {since} to {until}"
    lines = [judged_by, styled((head, "dim"))]
    for one in outputs:
        lines += [Text(), *_output(one).lines(width)]
        if one["confusion"]:
            lines += [Text(), *_confusion(one).lines(width)]
    return lines


def _title(output: Record) -> str:
    """Of an output: with the key of its labels if it differs."""
    name, label = str(output["output"]), output["label"]
    return name if label in (None, name) else f"{name} (label {label})"


def _output(output: Record) -> Rows:
    rows = [
        (name, f"{value:.4g}", "–" if low is None else f"{low:.4g} to {high:.4g}")
        for name, (value, low, high) in output["metrics"].items()
    ]
    return Rows((_title(output), f"{output['rows']:,} rows", "95 %"), rows)


def _confusion(output: Record) -> Rows:
    rows = [
        (name, *(f"{count:,}" for count in counts))
        for name, counts in zip(output["classes"], output["confusion"], strict=True)
    ]
    return Rows(("label \\ answer", *output["classes"]), rows)
