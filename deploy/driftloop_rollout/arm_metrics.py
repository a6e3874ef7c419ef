"""The metrics that people ask for, of candidate and champion beside each other. They decide nothing
(`driftloop_evaluation.shown_metrics`). Pure."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from driftloop_contracts.model import ModelSpec
from driftloop_evaluation.labelled_metrics import labelled_metrics

ROWS = 10_000
"""The newest rows of both arms that are measured."""
EVERY = timedelta(seconds=20)
"""Measuring takes about a tenth of a second."""

Measured = Mapping[str, Any]
"""at: when; candidate, champion: rows, and the outputs as `OutputMetrics.to_dict`."""


def due(known: Measured, now: datetime) -> bool:
    return not known or now - datetime.fromisoformat(known["at"]) >= EVERY


def measured(
    spec: ModelSpec, candidate: pa.Table, champion: pa.Table, now: datetime
) -> dict[str, Any]:
    """rows: with `out_…` and labels, oldest first. Empty if there is nothing to show of either."""
    sides = {"candidate": candidate, "champion": champion}
    found = {name: _of(spec, rows) for name, rows in sides.items()}
    if not any(side["outputs"] for side in found.values()):
        return {}
    return {"at": now.isoformat(), **found}


def of_arms(
    spec: ModelSpec, rows: pa.Table, candidate: int, stable: int, now: datetime
) -> dict[str, Any]:
    """rows: of both versions, with a label; those that callers sent to a version are left out."""
    drawn = rows.filter(pc.is_in(rows["arm"], pa.array(["canary", "stable"])))
    mine, champions = (drawn.filter(pc.equal(drawn["version"], v)) for v in (candidate, stable))
    return measured(spec, mine, champions, now)


def _of(spec: ModelSpec, rows: pa.Table) -> dict[str, Any]:
    outputs = labelled_metrics(spec, rows) if rows.num_rows else []
    return {"rows": rows.num_rows, "outputs": [one.to_dict() for one in outputs if one.rows]}
