"""One loss of several outputs: the mean of each output's loss, in units of its own. Pure."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

Losses = NDArray[np.float64]


def scaled(losses: Mapping[str, Losses], units: Mapping[str, float]) -> Losses:
    """One number for each of n rows, whose mean is the mean over outputs of (mean loss / unit).

    losses: by output, [n], NaN for a row that does not count for it. units: the mean loss that
    counts 1, such as that of the same answer for every row. So a share of rows without a label
    changes nothing, and outputs that were never counted are left out.
    """
    counted = {name: ~np.isnan(values) for name, values in losses.items()}
    counted = {name: known for name, known in counted.items() if known.any()}
    rows = len(next(iter(losses.values())))
    found = np.zeros(rows)
    for name, known in counted.items():
        share = known.mean() * len(counted) * units[name]
        found += np.where(known, np.nan_to_num(losses[name]), 0.0) / share
    return found


def unit_of(losses: Losses) -> float:
    """The mean of losses [n] that count, with half a loss more: one that is never wrong is a unit
    too."""
    known = losses[~np.isnan(losses)]
    return (float(known.sum()) + 0.5) / (len(known) + 1)
