"""Compares what clients were answered with what the lake has, by the public commands."""

import threading
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from answered_load import Answered
from command_line import Driftloop

SETTLE_S = 150.0
LOOK_AGAIN_S = 1.0


@dataclass(frozen=True)
class Account:
    """Rows, but for `answered` and `failures`, which count requests. `lake_rows`: of these answers;
    `dropped`: by reason, of this stack so far; `lost`: rows of answers that are neither in the lake
    nor counted as dropped; `off_books`: by how much the stack's ledger does not add up."""

    answered: int
    answered_rows: int
    lake_rows: int
    missing_rows: int
    duplicates: int
    dropped: Mapping[str, int]
    lost: int
    labels_missing: int
    off_books: int
    failures: Mapping[str, int]

    @property
    def sound(self) -> bool:
        return not (self.lost or self.duplicates or self.labels_missing or self.off_books)


@dataclass(frozen=True)
class Outcome:
    """One line of the report."""

    fault: str
    kills: Counter[str]
    account: Account
    seconds: float


@dataclass
class Report:
    """Written to `path` as it grows: a run takes long, and may be cut off."""

    path: Path
    outcomes: list[Outcome] = field(default_factory=list)

    def add(self, outcome: Outcome) -> None:
        self.outcomes.append(outcome)
        self.path.parent.mkdir(exist_ok=True)
        self.path.write_text(self.table() + "\n")

    def table(self) -> str:
        lines = [
            "| fault | kills | answered | rows answered | rows in the lake | missing | dropped, "
            "counted "
            "| twice | labels missing | requests failed | s |",
            "|---|---|---|---|---|---|---|---|---|---|---|",
        ]
        for o in self.outcomes:
            a = o.account
            kills = ", ".join(f"{count} {role}" for role, count in sorted(o.kills.items()))
            dropped = ", ".join(f"{rows} {reason}" for reason, rows in sorted(a.dropped.items()))
            lines.append(
                f"| {o.fault} | {kills or '–'} | {a.answered:,} | {a.answered_rows:,} "
                f"| {a.lake_rows:,} | {a.lost} | {dropped or '0'} | {a.duplicates} "
                f"| {a.labels_missing} | {sum(a.failures.values())} | {o.seconds:.0f} |"
            )
        return "\n".join(lines)


def settled(stack: Driftloop, model: str, answered: Answered, dropped_before: int = 0) -> Account:
    """The account once nothing is under way any more: everything found, or SETTLE_S gone by.
    `dropped_before`: rows that an earlier account of the stack counted as dropped."""
    deadline = time.monotonic() + SETTLE_S
    while True:
        found = _account(stack, model, answered, dropped_before)
        if found.sound or time.monotonic() > deadline:
            return found
        threading.Event().wait(LOOK_AGAIN_S)


def _account(stack: Driftloop, model: str, answered: Answered, dropped_before: int) -> Account:
    lake: dict[str, int] = {}
    total = 0
    for row in _rows(stack, model):
        lake[row["prediction_id"]] = row["rows"]
        total += row["found"]
    labels = {(r["prediction_id"], r["row"]) for r in _labels(stack, model)}
    missing = sum(max(0, n - lake.get(i, 0)) for i, n in answered.rows.items())
    counts = next(m for m in stack("status")["models"] if m["name"] == model)["counts"]
    dropped = counts["dropped"] - dropped_before
    return Account(
        answered=len(answered.rows),
        answered_rows=sum(answered.rows.values()),
        lake_rows=sum(lake.get(i, 0) for i in answered.rows),
        missing_rows=missing,
        duplicates=total - sum(lake.values()) + len(answered.repeated_ids),
        dropped=counts["dropped_reasons"],
        lost=max(0, missing - dropped),
        labels_missing=len(answered.labels - labels),
        off_books=abs(counts["served"] - counts["acked"] - counts["spooled"] - counts["dropped"])
        + abs(counts["acked"] - total - counts["retries"]),
        failures=dict(answered.failures),
    )


def _rows(stack: Driftloop, model: str) -> list[dict[str, Any]]:
    return _asked(
        stack,
        model,
        "SELECT prediction_id, count(*) AS found, count(DISTINCT row) AS rows FROM predictions "
        "GROUP BY 1",
    )


def _labels(stack: Driftloop, model: str) -> list[dict[str, Any]]:
    """Of what was predicted."""
    known = "(SELECT prediction_id FROM predictions)"
    return _asked(
        stack, model, f"SELECT prediction_id, row FROM labels WHERE prediction_id IN {known}"
    )


def _asked(stack: Driftloop, model: str, select: str) -> list[dict[str, Any]]:
    """None while the lake has nothing of the model."""
    found = stack("query", model, select, check=False)
    if isinstance(found, dict):
        assert "no prediction" in found["error"], found
        return []
    return list(found)
