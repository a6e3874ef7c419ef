"""Where the lake's tables lie, and the day that each row is filed under."""

from datetime import date, datetime, timedelta

import pyarrow as pa
import pyarrow.compute as pc

from driftloop_contracts.ids import time_of

PREDICTIONS_FOLDER = "predictions"
DATE = "date"
DATE_FIELD = pa.field(DATE, pa.date32(), nullable=False)

_OLDEST, _AHEAD = timedelta(days=366), timedelta(days=1)


def predictions_uri(lake: str, model: str) -> str:
    """`model` is a name that `contracts.model.NAME` matches: one safe path segment."""
    return f"{lake.rstrip('/')}/{PREDICTIONS_FOLDER}/{model}"


def labels_uri(lake: str) -> str:
    return f"{lake.rstrip('/')}/labels"


def dead_letters_uri(lake: str) -> str:
    return f"{lake.rstrip('/')}/dead_letters"


def offsets_uri(lake: str) -> str:
    return f"{lake.rstrip('/')}/offsets"


def dated(rows: pa.Table, days: pa.Array) -> pa.Table:
    """Rows with their partition column."""
    return rows.append_column(DATE_FIELD, days)


def days_of(times: pa.ChunkedArray) -> pa.Array:
    """UTC days of UTC timestamps."""
    return pc.cast(times, pa.date32())


def label_day(prediction_id: str, received_at: datetime) -> date:
    """The UTC day of the prediction, so that labels lie beside what they label.

    Ids that carry no time, or one that cannot be (clients may choose ids, and a partition for each
    odd day would cost every reader), are filed under the day the label came.
    """
    made = time_of(prediction_id)
    if made is None or not received_at - _OLDEST <= made <= received_at + _AHEAD:
        made = received_at
    return made.date()
