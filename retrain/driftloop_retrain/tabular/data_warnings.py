"""Warns if a data set is too small, with its numbers. Training continues."""

from collections import Counter
from math import ceil, sqrt

from driftloop_contracts.kind import Task
from driftloop_retrain.tabular.dataset import Split

MIN_HOLDOUT_ROWS = 200
"""With this many rows, a measured accuracy has an error of at most 7 points."""
MIN_CLASS_ROWS = 10


def data_warnings(parts: Split, task: Task) -> list[str]:
    """Return the warnings; empty if there are enough rows to train and to judge."""
    fit, holdout = parts.fit.rows, parts.holdout.rows
    found = []
    if holdout < MIN_HOLDOUT_ROWS:
        enough = 100 * ceil(MIN_HOLDOUT_ROWS * (fit + holdout) / holdout / 100)
        points = 196 * sqrt(0.25 / holdout)  # the normal 95 % interval of a share near one half
        found.append(
            f"few rows: {fit} to train on, {holdout} held out to judge the model; "
            + (f"its accuracy is known to ± {points:.0f} points only; " if _sorts(task) else "")
            + f"with {enough:,} rows {MIN_HOLDOUT_ROWS} are held out"
        )
    if _sorts(task):
        counts = Counter(parts.fit.labels.tolist())
        rare = {name: rows for name, rows in counts.items() if rows < MIN_CLASS_ROWS}
        if rare:
            shown = ", ".join(
                f"{name!r}: {rows}" for name, rows in sorted(rare.items(), key=str)[:5]
            )
            more = f" and {len(rare) - 5} more" if len(rare) > 5 else ""
            found.append(
                f"few rows of some classes ({shown}{more}): with fewer than {MIN_CLASS_ROWS} "
                "a class is hardly learned"
            )
    return found


def _sorts(task: Task) -> bool:
    return task == "classification"
