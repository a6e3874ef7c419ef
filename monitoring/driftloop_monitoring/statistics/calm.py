"""How a model's error moves while nothing is wrong: over the day and the week, and between rows.

The mean loss of real traffic has a rhythm, and rows of one user resemble each other. To a test that
takes rows as independent, both look like a rise. `Calm` collects what the judged rows show; a
`Lesson` is what the test takes from it, always from rows before those that it judges.

The shape of the error over time is learned, never its level: a rise that stays is not usual.
"""

from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

HOURS, WEEKDAYS, THURSDAY = 24, 7, 3
BLOCK = 100
"""Rows whose mean is one observation of the dispersion."""
LAGS = 6
"""Blocks that are taken to resemble each other (of Bartlett's window)."""
KEPT = 0.95
"""Share of what was learned that remains after a day: a rhythm may change with the season."""
DAY, WEEK = 86_400.0, 7 * 86_400.0
"""In seconds."""
PRIOR_DISPERSION, PRIOR_BLOCKS = 2.0, 20.0
"""The dispersion before it could be observed, and the blocks that this opinion is worth."""
CAUTION = 1.1
"""Factor of the observed dispersion, which is itself an estimate."""


@dataclass(frozen=True, slots=True)
class Lesson:
    """hours [24], weekdays [7]: the usual mean loss of an hour (UTC) and of a weekday, less the
    mean over all; week [168]: of an hour of the week, from Monday on, less what its hour and its
    weekday explain; dispersion: the variance of a mean of rows over that of as many independent
    rows, 1 or more; rows_per_day: of late, None: not known yet; seen: seconds between the first row
    and the last; days_apart: in the first week, the variance of an hour's mean between days."""

    hours: tuple[float, ...] = (0.0,) * HOURS
    weekdays: tuple[float, ...] = (0.0,) * WEEKDAYS
    week: tuple[float, ...] = (0.0,) * (WEEKDAYS * HOURS)
    dispersion: float = PRIOR_DISPERSION
    rows_per_day: float | None = None
    seen: float = 0.0
    days_apart: float = 0.0

    def usual(self, times: Floats) -> Floats:
        """The usual deviation of the mean loss from its level, at `times` in seconds since 1970,
        which was a Thursday. Between the centres of two hours it is interpolated."""
        hour = times / 3600.0 - 0.5
        low = np.floor(hour)
        part, at = hour - low, low.astype(np.int64) + THURSDAY * HOURS
        week = self.whole_week
        usual: Floats = (1 - part) * week[at % len(week)] + part * week[(at + 1) % len(week)]
        return usual

    @property
    def whole_week(self) -> Floats:
        """The usual deviation of each hour of the week [168]."""
        found: Floats = np.add.outer(self.weekdays, self.hours).ravel() + self.week
        return found


def _values(of: "Lesson | Calm") -> dict[str, Any]:
    """Not by `asdict`, which copies each number: this is written for each judgement."""
    return {each.name: getattr(of, each.name) for each in fields(of)}


@dataclass(frozen=True, slots=True)
class Calm:
    """Sums over judged rows, which lose weight with each day (see KEPT).

    first, last: times of rows in seconds since 1970; rows: how many; week: rows and summed loss
    less the baseline's mean, of each hour of the week, from Monday on; block: rows and summed
    residual of the block that is not full; recent: mean residuals of the last full blocks, the
    newest first; products: of a block's mean residual and that of the block k before it, summed,
    k = 0 … LAGS; total: of the mean residuals; blocks: their number; day: of the newest block, in
    days since 1970; next_lesson: the blocks at the next lesson of the first day, then None: a
    lesson a day.
    """

    first: float | None = None
    last: float = 0.0
    rows: int = 0
    week: tuple[tuple[float, float], ...] = ((0.0, 0.0),) * (WEEKDAYS * HOURS)
    block: tuple[int, float] = (0, 0.0)
    recent: tuple[float, ...] = ()
    products: tuple[float, ...] = (0.0,) * (LAGS + 1)
    total: float = 0.0
    blocks: float = 0.0
    day: int = 0
    next_lesson: float | None = 10.0
    lesson: Lesson = Lesson()

    def to_dict(self) -> dict[str, Any]:
        return _values(self) | {"lesson": _values(self.lesson)}

    @classmethod
    def from_dict(cls, value: dict[str, Any]) -> "Calm":
        found: dict[str, Any] = {name: _tuples(part) for name, part in value.items()}
        if "week" not in found:
            found["week"] = _of_hours_and_weekdays(found.pop("hours"), found.pop("weekdays"))
        lesson = {name: _tuples(part) for name, part in value["lesson"].items()}
        return cls(**{**found, "lesson": Lesson(**lesson)})

    def portion(self, times: Floats) -> int:
        """Return how many of the next rows, at `times` in seconds since 1970, the present lesson is
        for: those up to the end of the block after which one is learned, or all."""
        ends = np.arange(BLOCK - self.block[0], len(times) + 1, BLOCK)
        day = int(times[0] // DAY) if self.first is None else self.day
        due = times[ends - 1] // DAY > day
        if self.next_lesson is not None:
            due |= self.blocks + np.arange(1, len(ends) + 1) >= self.next_lesson
        return int(ends[due.argmax()]) if due.any() else len(times)

    def add(self, losses: Floats, times: Floats, mean: float, variance: float) -> "Calm":
        """After at most `portion` further rows: `losses` at `times` in seconds since 1970; mean,
        variance: of a row of the baseline. Rows may come in any portions."""
        over = losses - mean
        hour = times.astype(np.int64) // 3600 + THURSDAY * HOURS
        # The block begun before is one row, at the place that its length says.
        begun, summed = self.block
        residuals = np.concatenate([np.zeros(begun), over - self.lesson.usual(times)])
        residuals[0] += summed
        full = len(residuals) // BLOCK
        means = residuals[: full * BLOCK].reshape(full, BLOCK).mean(1)
        rest = residuals[full * BLOCK :]
        calm = replace(
            self,
            first=float(times[0]) if self.first is None else self.first,
            last=float(times[-1]),
            rows=self.rows + len(losses),
            week=_added(self.week, hour % len(self.week), over),
            block=(len(rest), float(rest.sum())),
            day=int(times[0] // DAY) if self.first is None else self.day,
        )
        if not full:
            return calm
        day = int(times[len(times) - len(rest) - 1] // DAY)
        return calm._closed(means, day, variance)

    def _closed(self, means: Floats, day: int, variance: float) -> "Calm":
        """After full blocks with these mean residuals; day: of the last of their rows."""
        old, course = len(self.recent), np.concatenate([self.recent[::-1], means])
        products = []
        for k, product in enumerate(self.products):
            later = course[max(old, k) :]
            earlier = course[max(old, k) - k :][: len(later)]
            products.append(product + float(later @ earlier))
        calm = replace(
            self,
            recent=tuple(course[: -LAGS - 1 : -1].tolist()),
            products=tuple(products),
            total=self.total + float(means.sum()),
            blocks=self.blocks + len(means),
        )
        if day > self.day:
            return calm._forget(KEPT ** (day - self.day), day)._learn(variance)
        if calm.next_lesson is not None and calm.blocks >= calm.next_lesson:
            return replace(calm, next_lesson=2 * calm.next_lesson)._learn(variance)
        return calm

    def _forget(self, kept: float, day: int) -> "Calm":
        return replace(
            self._less_sure(kept),
            week=tuple((n * kept, s * kept) for n, s in self.week),
            day=day,
            next_lesson=None,
        )

    def _learn(self, variance: float) -> "Calm":
        seen = self.last - (self.first or 0.0)
        dispersion = self._dispersion(variance)
        noise = variance * dispersion
        rate = self.rows * DAY / seen if seen else None
        lesson = Lesson(dispersion=dispersion, rows_per_day=rate, seen=seen)
        rows, sums = np.array(self.week).reshape(WEEKDAYS, HOURS, 2).transpose(2, 0, 1)
        if seen >= DAY:
            apart = _between(rows, sums, noise)
            lesson = replace(
                lesson, hours=_shape(rows.sum(0), sums.sum(0), noise), days_apart=apart
            )
        if seen >= WEEK:
            lesson = replace(lesson, weekdays=_shape(rows.sum(1), sums.sum(1), noise))
            rest = sums - rows * lesson.whole_week.reshape(rows.shape)
            lesson = replace(lesson, week=_shape(rows.ravel(), rest.ravel(), noise))
        taught = replace(self, lesson=lesson)
        if any(self.lesson.seen < cycle <= seen for cycle in (DAY, WEEK)):
            # Residuals so far contain the shape that is known from now on.
            return taught._less_sure(min(1.0, PRIOR_BLOCKS / self.blocks))
        return taught

    def _less_sure(self, kept: float) -> "Calm":
        products = tuple(p * kept for p in self.products)
        return replace(self, products=products, total=self.total * kept, blocks=self.blocks * kept)

    def _dispersion(self, variance: float) -> float:
        """From the long-run variance of the block means (Newey and West, 1987)."""
        mean = self.total / self.blocks
        covariances = [p / self.blocks - mean * mean for p in self.products]
        weights = [1.0] + [2 * (1 - k / (LAGS + 1)) for k in range(1, LAGS + 1)]
        long_run = sum(w * c for w, c in zip(weights, covariances, strict=True))
        observed = max(1.0, CAUTION * BLOCK * long_run / max(variance, 1e-12))
        n = self.blocks
        return (n * observed + PRIOR_BLOCKS * PRIOR_DISPERSION) / (n + PRIOR_BLOCKS)


def _tuples(value: Any) -> Any:
    """JSON has lists for tuples."""
    return tuple(_tuples(part) for part in value) if isinstance(value, list) else value


def _added(
    cells: tuple[tuple[float, float], ...], which: NDArray[np.int64], values: Floats
) -> tuple[tuple[float, float], ...]:
    rows = np.bincount(which, minlength=len(cells))
    sums = np.bincount(which, values, minlength=len(cells))
    return tuple(
        (n + r, s + v) for (n, s), r, v in zip(cells, rows.tolist(), sums.tolist(), strict=True)
    )


def _shape(rows: Floats, sums: Floats, noise: float) -> tuple[float, ...]:
    """Means of cells, of which `rows` and `sums` are known, less their mean, shrunk by signal /
    (signal + noise); 0 for an empty one. noise: variance of one row, dependence included."""
    known = rows > 0
    if known.sum() < 2:
        return (0.0,) * len(rows)
    means, noises = sums[known] / rows[known], noise / rows[known]
    means = means - means.mean()
    signal = max(0.0, float((means**2).mean() - noises.mean()))
    shape = np.zeros(len(rows))
    shape[known] = means * signal / (signal + noises)
    return tuple(shape.tolist())


def _between(rows: Floats, sums: Floats, noise: float) -> float:
    """The variance of the means of an hour (columns) between days (rows) beyond `noise`, that of
    one row; 0 if each hour was seen once (DerSimonian and Laird, 1986)."""
    means = sums / np.maximum(rows, 1e-9)
    of_hour = sums.sum(0) / np.maximum(rows.sum(0), 1e-9)
    spread = float((rows * (means - of_hour) ** 2).sum())
    free = int((rows > 0).sum() - (rows.sum(0) > 0).sum())
    weight = float((rows.sum(0) - (rows**2).sum(0) / np.maximum(rows.sum(0), 1e-9)).sum())
    return max(0.0, spread - noise * free) / weight if free else 0.0


def _of_hours_and_weekdays(hours: Any, weekdays: Any) -> tuple[tuple[float, float], ...]:
    """The cells of an earlier release, which kept an hour and a weekday apart."""
    (n, s), (m, t) = np.array(hours).T, np.array(weekdays).T
    rows = np.outer(m, n) / max(n.sum(), 1.0)
    mean = s.sum() / max(n.sum(), 1.0)
    means = np.add.outer(t / np.maximum(m, 1e-9), s / np.maximum(n, 1e-9)) - mean
    return tuple(zip(rows.ravel().tolist(), (rows * means).ravel().tolist(), strict=True))
