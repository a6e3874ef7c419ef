"""Successive halving: at two points of its training a trial must be among the best third of those
that came as far. Pure."""

from collections.abc import Sequence

REDUCTION = 3
RUNGS = (1 / 9, 1 / 3)
"""In shares of the training length."""


def is_dropped(loss: float, others: Sequence[float]) -> bool:
    """Whether a trial with this validation loss ends here. others: the losses at the same rung of
    the earlier trials of its family. As in asynchronous successive halving (Li et al., 2018), the
    first ones go on: with fewer than REDUCTION, only the best."""
    if not others:
        return False
    kept = max(1, (len(others) + 1) // REDUCTION)
    return sum(other <= loss for other in others) >= kept
