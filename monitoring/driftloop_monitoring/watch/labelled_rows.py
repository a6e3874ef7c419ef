"""Which rows may be judged by their labels."""

from collections.abc import Sequence
from datetime import datetime

import numpy as np
import pyarrow as pa

from driftloop_evaluation.labels import arrived
from driftloop_monitoring.state.judging_policy import JudgingPolicy
from driftloop_monitoring.statistics.positions import times_of
from driftloop_monitoring.statistics.windows import labelled_prefix


def labelled_rows(
    rows: pa.Table, now: datetime, policy: JudgingPolicy, labels: Sequence[str] | None = ()
) -> pa.Table:
    """Return the oldest rows whose labels have been received; the others wait. labels: their keys
    (`ModelSpec.awaited`)."""
    ages = np.datetime64(now.replace(tzinfo=None), "us") - times_of(rows)
    ready = labelled_prefix(
        arrived(rows, labels),
        ages / np.timedelta64(1, "s"),
        coverage=policy.label_coverage,
        timeout_s=policy.timeout_s,
    )
    return rows[:ready]
