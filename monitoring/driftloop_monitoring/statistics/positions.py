"""Positions in the rows of a model.

Rows are ordered by (predicted_at, prediction_id, row). A position identifies the last judged row.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, order=True)
class Position:
    at: datetime
    prediction_id: str = ""
    row: int = -1

    def to_dict(self) -> dict[str, Any]:
        return {"at": self.at.isoformat(), "prediction_id": self.prediction_id, "row": self.row}

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> "Position":
        return cls(datetime.fromisoformat(value["at"]), value["prediction_id"], value["row"])


def position_of(rows: pa.Table, index: int = -1) -> Position:
    """Return the position of one row, by default the last."""
    at, prediction_id, row = (
        rows[name][index].as_py() for name in ("predicted_at", "prediction_id", "row")
    )
    return Position(at, prediction_id, row)


def times_of(rows: pa.Table) -> NDArray[np.datetime64]:
    """Return when the rows were predicted (UTC, microseconds)."""
    times: NDArray[np.datetime64] = rows["predicted_at"].to_numpy().astype("datetime64[us]")
    return times


def seconds_of(rows: pa.Table) -> NDArray[np.float64]:
    """Return when the rows were predicted, in seconds since 1970."""
    seconds: NDArray[np.float64] = rows["predicted_at"].cast("int64").to_numpy() / 1e6
    return seconds


def rows_after(rows: pa.Table, position: Position | None) -> pa.Table:
    """Return the rows after the position, or all rows if it is None. `rows` must be sorted."""
    if position is None or not rows.num_rows:
        return rows
    at = times_of(rows)
    moment = np.datetime64(position.at.replace(tzinfo=None), "us")
    index = int(np.searchsorted(at, moment, "left"))
    while index < rows.num_rows and at[index] == moment and position_of(rows, index) <= position:
        index += 1
    return rows[index:]
