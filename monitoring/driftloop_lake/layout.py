"""The locations of the lake's tables, and the day partition of each row."""

from datetime import date, datetime, timedelta
from functools import lru_cache

import pyarrow as pa
import pyarrow.compute as pc

from driftloop_contracts.ids import time_of

PREDICTIONS_FOLDER = "predictions"
SHADOWS_FOLDER = "shadows"
DATE = "date"
DATE_FIELD = pa.field(DATE, pa.date32(), nullable=False)

_OLDEST, _AHEAD = timedelta(days=366), timedelta(days=1)


def predictions_uri(lake: str, model: str) -> str:
    """Return the table's URI. `model` is a name that matches `contracts.model.NAME`: one safe path
    segment."""
    return f"{lake.rstrip('/')}/{PREDICTIONS_FOLDER}/{model}"


def shadows_uri(lake: str, model: str) -> str:
    """The table of what candidates answered unseen."""
    return f"{lake.rstrip('/')}/{SHADOWS_FOLDER}/{model}"


def labels_uri(lake: str) -> str:
    return f"{lake.rstrip('/')}/labels"


def dead_letters_uri(lake: str) -> str:
    return f"{lake.rstrip('/')}/dead_letters"


def offsets_uri(lake: str) -> str:
    return f"{lake.rstrip('/')}/offsets"


def dated(rows: pa.Table, days: pa.Array) -> pa.Table:
    """Add the partition column to rows."""
    return rows.append_column(DATE_FIELD, days)


def days_of(times: pa.ChunkedArray) -> pa.Array:
    """Return the UTC days of UTC timestamps."""
    return pc.cast(times, pa.date32())


@lru_cache(maxsize=1024)
def label_day(prediction_id: str, received_at: datetime) -> date:
    """Return the UTC day of the prediction, so that labels are stored near their predictions.

    If the id contains no time, or an implausible one, it is the day on which the label was
    received: clients may choose ids, and each additional partition costs every reader. Cached,
    because the rows of a request have one id.
    """
    made = time_of(prediction_id)
    if made is None or not received_at - _OLDEST <= made <= received_at + _AHEAD:
        made = received_at
    return made.date()
