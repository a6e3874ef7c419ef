"""Charts as values: the browser draws them (uPlot), and a table beside them says the same."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import exp
from typing import Literal

import orjson

from driftloop_evaluation.wilson import wilson


@dataclass(frozen=True, slots=True)
class Series:
    """values: one for each x; None: unknown. look: `line`; `limit`, a threshold; `low` and `high`,
    the edges of a band, drawn behind; `edge`: a thin line."""

    label: str
    values: tuple[float | None, ...]
    look: Literal["line", "edge", "limit", "low", "high"] = "line"


@dataclass(frozen=True, slots=True)
class Chart:
    """title: says in words what is drawn, for those who cannot see it. x: seconds since 1970,
    ascending."""

    title: str
    x: tuple[float, ...]
    series: tuple[Series, ...]
    log: bool = False
    small: bool = False

    @property
    def document(self) -> str:
        # Not `asdict`, which copies each number.
        series = [{"label": s.label, "values": s.values, "look": s.look} for s in self.series]
        shown = {"title": self.title, "x": self.x, "series": series}
        return orjson.dumps({**shown, "log": self.log, "small": self.small}).decode()


@lru_cache(4_096)  # a page shows a window in its charts and in its table
def mean_interval(mean: float, rows: int) -> tuple[float, float]:
    """About 95 % of such intervals hold the true mean of losses in [0, 1] (Wilson 1927). Exact in
    spirit for losses 0 and 1; wider than needed for others, whose variance is lower."""
    return wilson(mean * rows, rows)


def e_values(logs: Sequence[float | None]) -> tuple[float | None, ...]:
    """From natural logarithms, at most 1e300."""
    return tuple(None if value is None else exp(min(value, 690.0)) for value in logs)
