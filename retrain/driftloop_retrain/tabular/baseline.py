"""The trivial baseline: the same answer for every row. A candidate that is not better than it has
learned nothing, whatever the champion does."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from driftloop_retrain.record.gate_result import Check, GateResult
from driftloop_retrain.tabular.evaluate import Outputs

Losses = NDArray[np.float64]


def constant_outputs(labels: NDArray[np.generic], outputs: Outputs) -> dict[str, np.ndarray]:
    """What a constant answers in place of `outputs`: the most frequent of the labels that were
    trained on, their shares as probabilities, or their mean."""
    names, counts = np.unique(labels, return_counts=True)
    constant: Mapping[str, object] = {
        name: counts / counts.sum()
        if values.ndim == 2 and values.shape[1] == len(names)
        else names[counts.argmax()]
        if values.dtype.kind != "f"
        else labels.astype(np.float64).mean()
        for name, values in outputs.items()
    }
    return {
        name: np.broadcast_to(np.asarray(constant[name], values.dtype), values.shape)
        for name, values in outputs.items()
    }


def with_baseline(
    verdict: GateResult, candidate: Losses, constant: Losses, name: str = "baseline"
) -> GateResult:
    """The verdict, failed if the candidate's mean loss is not below the constant's. Losses [n] of
    the same rows; NaN for either does not count. name: of the check."""
    known = ~(np.isnan(candidate) | np.isnan(constant))
    ours, theirs = candidate[known], constant[known]
    gain = float(theirs.mean() - ours.mean()) if len(ours) else 0.0
    if verdict.verdict == "inconclusive" or gain > 0:
        return verdict
    check = Check.of(
        name,
        ours,
        theirs,
        passed=False,
        improvement=gain,
        p_worse=1.0,
        reason=f"no better than the same answer for every row (by {gain:.4f})",
        paired=True,
    )
    return replace(verdict, verdict="failed", checks=(*verdict.checks, check))
