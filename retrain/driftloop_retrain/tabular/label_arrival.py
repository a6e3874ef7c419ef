"""How many of the answers that a training reads labels of have one, and how long labels took."""

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from driftloop_lake.port import Pin, PinnedLake
from driftloop_retrain.tabular.evaluation.intervals import share


def label_arrival(lake: PinnedLake, model: str, pin: Pin, labelled: pa.Table) -> dict[str, Any]:
    """As JSON. labelled: rows of the lake with their labels, at least one. delay: seconds from the
    answer to the label that counts, by quantile. coverage: of the answers since the first of these
    rows, up to the last. Raises RetryLater."""
    ends = pc.min_max(labelled["predicted_at"])
    since, until = (_utc(ends[end].as_py()) for end in ("min", "max"))
    answered = lake.answered(model, pin, since, until + timedelta(microseconds=1))
    at = (labelled[name].cast(pa.timestamp("us")) for name in ("label_at", "predicted_at"))
    took, answers = (np.asarray(column.to_numpy()) for column in at)
    delays = np.maximum(0.0, (took - answers) / np.timedelta64(1, "s"))
    return {
        "answers": answered,
        "labelled": labelled.num_rows,
        "coverage": share(labelled.num_rows, max(answered, labelled.num_rows)),
        "delay_s": {f"{part:.0%}": float(np.quantile(delays, part)) for part in (0.5, 0.9, 0.99)},
    }


def _utc(time: datetime) -> datetime:
    return time if time.tzinfo is not None else time.replace(tzinfo=UTC)
