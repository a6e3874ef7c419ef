"""The objective of a classification whose spec names none, by how rare its rarest class is. Pure.

An answer that never names a class is wrong in as many rows as have the class. If that is little
more than the margin of the error (2 points), neither an alert, nor a gate, nor a rollout can see
that the class is not found any more: then each class counts the same (`balanced_error`).
"""

from collections import Counter
from collections.abc import Iterable

from driftloop_contracts.objective import Objective

RARE = 0.05
"""A class with a smaller share of the rows is rare: 2.5 margins of the error."""
FEW_ROWS = 1_000
"""With fewer rows a share is not known well enough, and a class may be a mistake in the labels."""
LEAST_ROWS = 20
"""Rows that a class must have."""


def chosen_objective(labels: Iterable[str | None]) -> tuple[Objective | None, str]:
    """Return the objective and why; None is the error, as for all specs without an objective.
    labels: class names of rows, None for none."""
    counts = Counter(label for label in labels if label is not None)
    rows = sum(counts.values())
    if rows < FEW_ROWS or len(counts) < 2:
        return None, f"judged by its error: {rows:,} labels do not say how rare a class is"
    rarest, seen = min(counts.items(), key=lambda item: (item[1], item[0]))
    share = seen / rows
    if share >= RARE:
        return None, f"judged by its error: the rarest class, {rarest}, is {share:.1%} of the rows"
    if seen < LEAST_ROWS:
        return None, f"judged by its error: the class {rarest} has {seen} rows, too few to judge by"
    why = (
        f"judged by the balanced error: the class {rarest} is {share:.2%} of the rows, and an "
        "answer that never names it would hardly raise the error (`objective: error` in the spec "
        "keeps the error)"
    )
    return Objective(metric="balanced_error"), why
