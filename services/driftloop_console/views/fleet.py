"""All models, those that need attention first."""

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any
from urllib.parse import quote

from driftloop_console.tables import Column, Table
from driftloop_console.views.condition import Condition, ModelRecords, Word

Record = Mapping[str, Any]
COLUMNS = (
    Column("model", "Model", href=lambda row: model_url(row["model"])),
    Column("state", "State", "state"),
    Column("why", "Why", "sentence"),
    Column("champion", "Champion", "count"),
    Column("served", "Rows served", "count"),
    Column("rows_per_s", "Rows/s", "number"),
    Column("error", "Error", "number"),
    Column("estimated", "Expected", "number"),
    Column("reference", "Reference", "number"),
    Column("label_lag_s", "Label lag", "seconds"),
    Column("gaps", "Capture gaps", "count"),
    Column("changed_at", "Last change", "time"),
)
EMPTY = "No model is deployed. Deploy one with `driftloop deploy MODEL.onnx --name NAME`."


def model_url(model: str) -> str:
    return f"/models/{quote(model, safe='')}"


def version_url(model: str, version: int) -> str:
    return f"{model_url(model)}/versions/{version}"


def rollout_url(id_: str) -> str:
    return f"/rollouts/{quote(id_, safe='')}"


def incident_url(id_: str) -> str:
    return f"/incidents/{quote(id_, safe='')}"


def retrain_url(id_: str) -> str:
    return f"/retrains/{quote(id_, safe='')}"


def fleet_table(models: Collection[tuple[ModelRecords, Condition]]) -> Table:
    """Sorted by need for attention; of equal need those with capture gaps, then the greatest rise
    of the error first."""
    ordered = sorted(models, key=lambda pair: _need(*pair))
    return Table("models", COLUMNS, [_row(*pair) for pair in ordered], EMPTY)


def _need(records: ModelRecords, found: Condition) -> tuple[int, bool, float, str]:
    rise = (records.error or 0.0) - (records.reference or 0.0)
    return found.rank, not records.gaps, -rise, records.deployment.model.name


def _row(records: ModelRecords, found: Condition) -> dict[str, Any]:
    return {
        "model": records.deployment.model.name,
        "state": str(found.word),
        "why": found.why,
        "champion": records.deployment.split.stable,
        "served": records.served,
        "rows_per_s": rows_per_s(records.window),
        "error": records.error,
        "estimated": records.estimated,
        "reference": records.reference,
        "label_lag_s": records.label_lag_s,
        "gaps": records.gaps,
        "changed_at": last_change(records),
    }


def rows_per_s(window: Record | None) -> float | None:
    """In a window; None if it has no length."""
    if window is None:
        return None
    ends = [datetime.fromisoformat(window[name]) for name in ("started_at", "ended_at")]
    seconds = (ends[1] - ends[0]).total_seconds()
    return window["rows"] / seconds if seconds > 0 else None


def last_change(records: ModelRecords) -> str | None:
    """Of what serves: when the newest rollout changed the traffic last."""
    rollout = records.rollout
    if rollout is None:
        return None
    return str(rollout.get("finished_at") or rollout.get("stepped_at") or rollout["at"])


def summary(models: Collection[tuple[ModelRecords, Condition]]) -> dict[str, int]:
    """How many models are in each state, in the order of need."""
    found = [str(condition.word) for _, condition in models]
    return {str(word): found.count(word) for word in Word}
