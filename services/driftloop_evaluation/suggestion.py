"""Which objective fits a model's labels, if nobody named one."""

from collections.abc import Hashable, Mapping
from typing import Any

from driftloop_contracts.kind import Task

RARE_SHARE = 0.1
"""Below this share of the labels, the plain error hardly sees whether a class is found: never
naming it costs less than this."""


def suggested_objective(
    task: Task | None, rows_by_class: Mapping[Hashable, int]
) -> dict[str, Any] | None:
    """The objective for a model's spec; None if the default of its task fits. rows_by_class: how
    many labels each class has; empty for values."""
    if task != "classification" or len(rows_by_class) < 2:
        return None
    rarest = min(rows_by_class.values()) / sum(rows_by_class.values())
    return {"metric": "balanced_error"} if rarest < RARE_SHARE else None
