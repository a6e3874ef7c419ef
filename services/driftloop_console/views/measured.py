"""Metrics of a version with their intervals, for people."""

from collections.abc import Mapping

LOW, HIGH = "_low", "_high"


def measured(metrics: Mapping[str, float]) -> dict[str, str]:
    """name → `0.913 (0.902 to 0.924)`; the interval is of 95 %."""
    found = {}
    for name, value in metrics.items():
        if name.endswith((LOW, HIGH)) and name.rpartition("_")[0] in metrics:
            continue
        low, high = metrics.get(name + LOW), metrics.get(name + HIGH)
        interval = "" if low is None or high is None else f" ({low:.4g} to {high:.4g})"
        found[name] = f"{value:.4g}{interval}"
    return found
