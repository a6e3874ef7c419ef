"""Decides which rows are judged and when: windows, and the label watermark."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal
from uuid import UUID, uuid5

import numpy as np
from numpy.typing import NDArray

LABEL_BLOCK = 100
"""The number of rows whose labels are checked together."""

_SPACE = UUID("5d1f3c52-6f0e-4a52-9d0c-6a55f1a1c1d3")


def stable_id(*parts: object) -> str:
    """Return an id derived from the parts, so that a record written again after a crash is stored
    once."""
    return str(uuid5(_SPACE, "/".join(str(p) for p in parts)))


@dataclass(frozen=True, slots=True)
class Cut:
    """The next window: the first `rows` of the waiting rows; `reason`: why it is inconclusive, or
    ""."""

    kind: Literal["count", "time"]
    rows: int
    reason: str = ""


def cut(
    at: NDArray[np.datetime64],
    now: datetime,
    *,
    window_rows: int,
    least_seconds: float,
    window_seconds: float,
    min_rows: int,
) -> Cut | None:
    """Return the next window of settled rows; None while it is still open. at: when the waiting
    rows were predicted (UTC), ascending."""
    waiting = len(at)
    if not waiting:
        return None
    age_s = (np.datetime64(now.replace(tzinfo=None), "us") - at[0]) / np.timedelta64(1, "s")
    if waiting >= window_rows and age_s >= least_seconds:
        kind: Literal["count", "time"] = "count"
        least = np.timedelta64(round(least_seconds * 1e6), "us")
        rows = max(window_rows, int(np.searchsorted(at, at[0] + least)))
    elif age_s >= window_seconds:
        kind, rows = "time", waiting
    else:
        return None
    if rows < min_rows:
        return Cut(kind, rows, f"only {rows} of at least {min_rows} rows")
    return Cut(kind, rows)


def labelled_prefix(
    labelled: NDArray[np.bool_], ages_s: NDArray[np.float64], *, coverage: float, timeout_s: float
) -> int:
    """Return how many of the oldest rows may be judged by their labels.

    Blocks of LABEL_BLOCK rows are taken in order, each once a `coverage` share of it is labelled or
    all of it is older than `timeout_s`. Judging rows as soon as they are labelled would be biased,
    because early labels differ from late ones.
    """
    taken = 0
    while taken < len(labelled):
        block = slice(taken, taken + LABEL_BLOCK)
        full = len(labelled[block]) == LABEL_BLOCK
        complete = full and labelled[block].mean() >= coverage
        if not complete and ages_s[block].min() < timeout_s:
            break
        taken += len(labelled[block])
    return taken
