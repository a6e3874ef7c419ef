"""Keeps the newest labelled rows of a model, and measures them from time to time.

They are the rows that the test of the error was given, so the lake is read no more for this. After
a restart they are collected anew; what was measured last stays in the monitor's state until there
are as many new rows as a window has.
"""

import time
from datetime import datetime, timedelta
from typing import Any

import pyarrow as pa

from driftloop_contracts.model import ModelSpec
from driftloop_evaluation.labelled_metrics import labelled_metrics, metric_columns

MOST_ROWS = 5_000
EVERY = timedelta(seconds=60)
"""Measuring takes about a tenth of a second."""
LOAD, MOST_REST = 0.1, timedelta(hours=1)
"""Of a core for measuring all models, unless that would be more than an hour ago."""


class LiveMetrics:
    """Of the version that is judged. least: the rows that the first measurement needs."""

    def __init__(
        self, spec: ModelSpec, least: int, most: int = MOST_ROWS, every: timedelta = EVERY
    ) -> None:
        self._spec = spec
        self._least, self._most, self._every = min(least, most), most, every
        self._version: int | None = None
        self._rows: pa.Table | None = None
        self._measured_at: datetime | None = None
        self._is_new = False
        self._rest = timedelta(0)

    def after(
        self, version: int, rows: pa.Table, now: datetime, models: int = 1
    ) -> dict[str, Any] | None:
        """Take further labelled rows of a version, oldest first. Return the metrics of the newest
        ones for the monitor's state; None: they are as they were. models: how many share LOAD."""
        if version != self._version:
            self._version, self._rows, self._measured_at = version, None, None
        if rows.num_rows:
            columns = ["predicted_at", *metric_columns(self._spec, rows)]
            parts = [rows.slice(max(0, rows.num_rows - self._most)).select(columns)]
            if self._rows is not None:
                parts.insert(0, self._rows)
            found = pa.concat_tables(parts, promote_options="permissive").combine_chunks()
            self._rows = found.slice(max(0, found.num_rows - self._most))
            self._is_new = True
        if not self._is_due(now) or self._rows is None:
            return None
        self._measured_at, self._is_new = now, False
        begun_s = time.process_time()
        outputs = [one.to_dict() for one in labelled_metrics(self._spec, self._rows)]
        taken_s = time.process_time() - begun_s
        self._rest = min(MOST_REST, timedelta(seconds=taken_s * (models - 1) / LOAD))
        at = self._rows["predicted_at"]
        return {
            "version": version,
            "rows": self._rows.num_rows,
            "since": at[0].as_py().isoformat(),
            "until": at[-1].as_py().isoformat(),
            "measured_at": now.isoformat(),
            "outputs": outputs,
        }

    def _is_due(self, now: datetime) -> bool:
        if self._rows is None or not self._is_new:
            return False
        if self._measured_at is None:
            return bool(self._rows.num_rows >= self._least)
        return now - self._measured_at >= max(self._every, self._rest)
