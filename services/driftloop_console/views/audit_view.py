"""Who did what."""

from collections.abc import Mapping, Sequence
from typing import Any

from driftloop_console.tables import Column, Table
from driftloop_console.views.fleet import model_url
from driftloop_console.words import clip

Record = Mapping[str, Any]
_OWN = ("at", "actor", "action", "model")
MOST_TEXT = 500


def audit_table(entries: Sequence[Record]) -> Table:
    columns = (
        Column("at", "Time", "time"),
        Column("actor", "Who"),
        Column("action", "What"),
        Column("model", "Model", href=_model_url),
        Column("detail", "Detail", "sentence"),
    )
    rows = [
        {
            "at": entry["at"],
            "actor": entry["actor"],
            "action": entry["action"],
            "model": entry.get("model", ""),
            "detail": _detail(entry),
        }
        for entry in entries
    ]
    empty = "Nobody did anything yet: deployments, retrains and what operators do appear here."
    return Table("audit", columns, rows, empty)


def _model_url(row: Record) -> str | None:
    return model_url(row["model"]) if row["model"] else None


def _detail(entry: Record) -> str:
    named = (
        f"{name}: {value}"
        for name, value in entry.items()
        if name not in _OWN and value not in (None, "", [], {})
    )
    return clip("; ".join(named), MOST_TEXT)
