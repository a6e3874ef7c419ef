"""How long a graph takes, beside another one: asked in turn, so that a busy machine slows both."""

import time
from collections.abc import Mapping
from math import exp, sqrt
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Feeds = Mapping[str, NDArray[np.generic]]
WARM_UP, PAIRS = 5, 60
Z = 1.96


class Runs(Protocol):
    def run(self, inputs: Feeds) -> Any: ...


def paired_times(
    one: Runs, other: Runs, feeds: Feeds, pairs: int = PAIRS
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Seconds [pairs] of each; which one is first changes from pair to pair."""
    for _ in range(WARM_UP):
        one.run(feeds)
        other.run(feeds)
    times = np.zeros((pairs, 2))
    for pair in range(pairs):
        for side in (0, 1) if pair % 2 else (1, 0):
            began = time.perf_counter()
            (one, other)[side].run(feeds)
            times[pair, side] = time.perf_counter() - began
    return times[:, 0], times[:, 1]


def ratio(one: NDArray[np.float64], other: NDArray[np.float64], z: float = Z) -> dict[str, float]:
    """How long one takes in times of the other: the median of the pairs, with the interval (z
    standard errors) of its order statistics, which no outlier moves."""
    logs = np.sort(np.log(one / other))
    n = len(logs)
    half = z * sqrt(n) / 2
    low, high = max(0, int(n / 2 - half)), min(n - 1, int(np.ceil(n / 2 + half)))
    return {
        "ratio": exp(float(np.median(logs))),
        "low": exp(float(logs[low])),
        "high": exp(float(logs[high])),
    }


def file_bytes(folder: Path) -> int:
    """Of the graph and the weights beside it."""
    return sum(each.stat().st_size for each in folder.glob("model.onnx*"))
