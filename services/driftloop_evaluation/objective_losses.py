"""The loss of each row under an objective: in [0, 1], or NaN for a row that does not count.

As with `losses`, whether a row counts depends on its label and on the type of the output, never on
the answer. A rate among some rows only (the miss rate: among positives) is the mean of a loss that
is NaN elsewhere, if the label chooses the rows. If the answer chooses them (the false discovery
rate: among those called positive), every row counts, with the champion's rate r in between: r where
the answer is negative, 1 for a false positive, 0 for a true one. Its mean is r + s·(rate - r), s
the share of answers that are positive: above r if and only if the rate is.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from driftloop_contracts.errors import Rejected
from driftloop_contracts.events import OUTPUT_PREFIX
from driftloop_contracts.model import ModelSpec
from driftloop_contracts.objective import Objective
from driftloop_evaluation.class_answers import (
    Named,
    Probabilities,
    binary_classes,
    column_of,
    named,
    positive_class,
    probabilities,
    probability_output,
    set_output,
)
from driftloop_evaluation.labels import LABEL, Floats, Labels, floats
from driftloop_evaluation.losses import is_number, one_value, rating_losses, value_losses
from driftloop_evaluation.plugins import load_plugin
from driftloop_evaluation.ranking import pair_losses
from driftloop_evaluation.scales import SCALE_RMSE, errors, rmse
from driftloop_evaluation.scorer import scorer_losses

Facts = Mapping[str, float]
"""What losses are measured by, of the champion's labelled rows."""

LEAST_PROBABILITY = 1e-3
"""Log loss counts a smaller probability of what happened as this one, and that as 1."""
SCALE_MAE = 5.0
"""Under `absolute` and `pinball` an error of this many times the champion's mean absolute error has
the loss 1; under `relative` one of 100 %. `cap` says otherwise."""


@dataclass(frozen=True, slots=True)
class Judging:
    """n labelled rows under one objective."""

    spec: ModelSpec
    objective: Objective
    rows: pa.Table
    labels: Labels
    facts: Facts

    def named(self) -> Named:
        return named(self.spec, self.objective, self.rows, self.labels)

    def probabilities(self) -> Probabilities:
        name = probability_output(self.spec, self.objective, self.rows)
        return probabilities(self.spec, self.objective, column_of(self.rows, name), self.labels)

    def value(self, output: str | None = None) -> Any:
        name = output or self.objective.output or self.spec.output
        column = one_value(column_of(self.rows, name))
        if not is_number(column.type):
            raise Rejected(f"output {name!r} is not of numbers")
        return column

    def judged(self, column: Any) -> "np.ndarray[Any, np.dtype[np.bool_]]":
        valid = column.is_valid().to_numpy(zero_copy_only=False)
        return np.asarray(valid & ~np.isnan(self.labels.numbers), dtype=bool)

    def fact(self, name: str) -> float:
        if name not in self.facts:
            raise Rejected(
                f"metric {self.objective.metric!r}: the champion's past is not known yet"
            )
        return self.facts[name]


def objective_losses(spec: ModelSpec, objective: Objective, rows: pa.Table, facts: Facts) -> Floats:
    """One loss for each of n rows with `out_<output>`, `label` and `label_number`. facts: of
    `learn`. Raises Rejected if outputs and labels cannot serve the objective."""
    if not rows.num_rows:
        return np.zeros(0)
    judging = Judging(spec, objective, rows, Labels.of_rows(rows, objective.label), facts)
    if objective.own:
        return _own(judging)
    return LOSSES[objective.metric](judging)


def learn(spec: ModelSpec, objective: Objective, past: pa.Table) -> dict[str, float]:
    """The facts for an objective, from the champion's labelled rows; `unit`: how much of the
    metric's own value the loss 1 is; `offset`: its value at which the loss is the same. Raises
    Rejected as `objective_losses` does, and if no row has a label."""
    judging = Judging(spec, objective, past, Labels.of_rows(past, objective.label), {})
    learner = LEARNED.get(objective.metric)
    return {"unit": 1.0, "offset": 0.0, **(learner(judging) if learner else {})}


# -- classes -------------------------------------------------------------------------------------
def _error(j: Judging) -> Floats:
    c = j.named()
    return np.where(c.judged, c.wrong.astype(np.float64), np.nan)


def _balanced(j: Judging) -> Floats:
    """Each class weighs as much as any other, however rare: 1/(classes · its share among the
    champion's labels), over the largest weight; a class never seen weighs as the rarest."""
    c = j.named()
    weight = np.ones(len(c.label))
    for key in j.facts:
        if key.startswith("weight:"):
            weight[c.labels(key.removeprefix("weight:"))] = j.fact(key)
    j.fact("unit")
    return np.where(c.judged, c.wrong * weight, np.nan)


def _learn_balanced(j: Judging) -> dict[str, float]:
    c = j.named()
    counted = c.label.filter(pa.array(c.judged)).value_counts()
    if not len(counted):
        raise Rejected("metric 'balanced_error': no row has a label yet")
    shares = {x["values"]: x["counts"] for x in counted.to_pylist()}
    total, rarest = sum(shares.values()), min(shares.values())
    weights = {f"weight:{name}": rarest / count for name, count in shares.items()}
    return {**weights, "unit": total / (len(shares) * rarest)}


def _cost(j: Judging) -> Floats:
    """Costs over the dearest of them. A class that `costs` does not name costs the dearest."""
    c, o = j.named(), j.objective
    if o.costs is None:
        positive = positive_class(j.spec, o, c.label)
        called, is_positive = c.answers(positive), c.labels(positive)
        missed, alarm = float(o.false_negative or 0.0), float(o.false_positive or 0.0)
        cost = np.where(is_positive & ~called, missed, np.where(called & ~is_positive, alarm, 0.0))
        return np.where(c.judged, cost / _dearest(o), np.nan)
    loss = c.wrong.astype(np.float64)
    for label, row in o.costs.items():
        here = c.labels(label)
        for answer, price in row.items():
            loss[here & c.answers(answer)] = price / _dearest(o)
    return np.where(c.judged, loss, np.nan)


def _dearest(o: Objective) -> float:
    if o.costs is not None:
        return max(cost for row in o.costs.values() for cost in row.values())
    return max(o.false_positive or 0.0, o.false_negative or 0.0)


def _miss_rate(j: Judging) -> Floats:
    c = j.named()
    positive = positive_class(j.spec, j.objective, c.label)
    missed = ~c.answers(positive)
    return np.where(c.judged & c.labels(positive), missed.astype(np.float64), np.nan)


def _false_positive_rate(j: Judging) -> Floats:
    c = j.named()
    positive = positive_class(j.spec, j.objective, c.label)
    alarm = c.answers(positive).astype(np.float64)
    return np.where(c.judged & ~c.labels(positive), alarm, np.nan)


def _false_discovery_rate(j: Judging) -> Floats:
    c, rate = j.named(), j.fact("offset")
    positive = positive_class(j.spec, j.objective, c.label)
    loss = np.where(c.answers(positive), (~c.labels(positive)).astype(np.float64), rate)
    return np.where(c.judged, loss, np.nan)


def _learn_discovery(j: Judging) -> dict[str, float]:
    c = j.named()
    positive = positive_class(j.spec, j.objective, c.label)
    called = c.judged & c.answers(positive)
    if not called.any():
        raise Rejected(
            f"metric 'false_discovery_rate': the champion called no labelled row {positive!r}"
        )
    rate = float((~c.labels(positive))[called].mean())
    return {"offset": rate, "unit": float(c.judged.sum() / called.sum())}


# -- probabilities -------------------------------------------------------------------------------
def _brier(j: Judging) -> Floats:
    """Half of the squared distance from certainty; of two classes (p - y)²."""
    p = j.probabilities()
    truth = np.zeros(p.p.shape)
    seen = p.label >= 0
    truth[seen, p.label[seen]] = 1.0
    loss = 0.5 * ((p.p - truth) ** 2).sum(axis=1)
    loss = np.where(seen & np.isfinite(loss), np.minimum(loss, 1.0), 1.0)
    return np.where(p.judged, loss, np.nan)


def _log_loss(j: Judging) -> Floats:
    p = j.probabilities()
    chosen = np.where(p.label >= 0, p.p[np.arange(len(p.p)), p.label], 0.0)
    kept = np.clip(np.nan_to_num(chosen, nan=0.0), LEAST_PROBABILITY, 1.0)
    return np.where(p.judged, np.log(kept) / np.log(LEAST_PROBABILITY), np.nan)


def _top_k(j: Judging) -> Floats:
    p, k = j.probabilities(), j.objective.k or 1
    chosen = p.p[np.arange(len(p.p)), p.label]
    # Ties count against the model: an answer that is the same for all classes names none.
    better = (p.p >= chosen[:, None]).sum(axis=1)
    right = (p.label >= 0) & ~np.isnan(p.p).any(axis=1) & (better <= k)
    return np.where(p.judged, (~right).astype(np.float64), np.nan)


def _set_coverage(j: Judging) -> Floats:
    """1 for a label outside of the set of classes."""
    p = probabilities(j.spec, j.objective, column_of(j.rows, set_output(j.objective)), j.labels)
    inside = (p.label >= 0) & (p.p[np.arange(len(p.p)), p.label] >= 0.5)
    return np.where(p.judged, (~inside).astype(np.float64), np.nan)


def _ranking(j: Judging) -> Floats:
    p = j.probabilities()
    positive = binary_classes(j.spec, j.objective)[1]
    if positive not in p.classes:
        raise Rejected(f"metric 'ranking': class {positive!r} is none of {', '.join(p.classes)}")
    place = p.classes.index(positive)
    version = np.zeros(len(p.p))
    if "version" in j.rows.column_names:
        version = floats(j.rows["version"])
    return pair_losses(p.p[:, place], p.label == place, p.judged, version)


# -- values --------------------------------------------------------------------------------------
def _squared(j: Judging) -> Floats:
    return value_losses(j.value(), j.labels, j.fact("scale"))


def _absolute(j: Judging) -> Floats:
    column = j.value()
    return _capped(j, column, np.abs(floats(column) - j.labels.numbers), j.fact("scale"))


def _relative(j: Judging) -> Floats:
    column, numbers = j.value(), j.labels.numbers
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.abs(floats(column) - numbers) / np.abs(numbers)
    share = np.where(floats(column) == numbers, 0.0, share)
    return _capped(j, column, share, j.objective.cap or 1.0)


def _pinball(j: Judging) -> Floats:
    column, q = j.value(), j.objective.quantile or 0.5
    below = j.labels.numbers - floats(column)
    return _capped(j, column, np.maximum(q * below, (q - 1.0) * below), j.fact("scale"))


def _coverage(j: Judging) -> Floats:
    """1 for a label outside of the interval."""
    low, high = j.value(j.objective.lower), j.value(j.objective.upper)
    inside = (floats(low) <= j.labels.numbers) & (j.labels.numbers <= floats(high))
    return np.where(j.judged(low) & j.judged(high), (~inside).astype(np.float64), np.nan)


def _capped(j: Judging, column: Any, error: Floats, cap: float) -> Floats:
    loss = np.where(np.isnan(error), 1.0, np.minimum(error / cap, 1.0))
    return np.where(j.judged(column), loss, np.nan)


def _learn_squared(j: Judging) -> dict[str, float]:
    scale = j.objective.cap or SCALE_RMSE * (rmse(_errors(j)) or 1.0 / SCALE_RMSE)
    return {"scale": scale, "unit": scale**2}


def _learn_absolute(j: Judging) -> dict[str, float]:
    scale = j.objective.cap or SCALE_MAE * float(np.abs(_errors(j)).mean()) or 1.0
    return {"scale": scale, "unit": scale}


def _errors(j: Judging) -> Floats:
    found = errors(j.value(), j.labels)
    if not found.size:
        raise Rejected(f"metric {j.objective.metric!r}: no row has a label that is a number yet")
    return found


# -- other ---------------------------------------------------------------------------------------
def _rating(j: Judging) -> Floats:
    return rating_losses(j.labels.numbers)


def _own(j: Judging) -> Floats:
    """Of a user's function: called with the labels [m] (numbers, or texts as objects) and outputs
    (name → array [m]) of the m rows that have a label."""
    what = f"metric {j.objective.metric!r}"
    function = load_plugin(j.objective.metric, "metric")
    known = j.rows[LABEL].is_valid().combine_chunks()
    part = j.rows.filter(known)
    found = np.full(j.rows.num_rows, np.nan)
    if not part.num_rows:
        return found
    outputs = {
        name.removeprefix(OUTPUT_PREFIX): _array(part[name])
        for name in part.column_names
        if name.startswith(OUTPUT_PREFIX)
    }
    labels = Labels.of_rows(part, j.objective.label)
    numbers = labels.numbers
    given = labels.names().to_numpy(zero_copy_only=False) if np.isnan(numbers).all() else numbers
    try:
        losses = np.asarray(function(given, outputs), dtype=np.float64)
    except Exception as error:  # it is the user's code
        raise Rejected(f"{what} raised {type(error).__name__}: {error}") from None
    if losses.shape != (part.num_rows,):
        raise Rejected(f"{what} gave {losses.shape} losses for {part.num_rows} rows")
    if np.isnan(losses).all():
        raise Rejected(f"{what} gave NaN for all {part.num_rows} labelled rows")
    if np.nanmin(losses) < 0 or np.nanmax(losses) > 1:
        raise Rejected(f"{what} gave a loss outside [0, 1]")
    found[np.flatnonzero(known.to_numpy(zero_copy_only=False))] = losses
    return found


def _array(column: Any) -> Any:
    """[m], or [m, k] for lists of one length."""
    values = column.combine_chunks()
    if pa.types.is_list(values.type) or pa.types.is_fixed_size_list(values.type):
        return np.array(values.to_pylist())
    return values.to_numpy(zero_copy_only=False)


LOSSES: Mapping[str, Callable[[Judging], Floats]] = {
    "error": _error,
    "balanced_error": _balanced,
    "cost": _cost,
    "miss_rate": _miss_rate,
    "false_positive_rate": _false_positive_rate,
    "false_discovery_rate": _false_discovery_rate,
    "brier": _brier,
    "log_loss": _log_loss,
    "ranking": _ranking,
    "set_coverage": _set_coverage,
    "top_k_error": _top_k,
    "squared": _squared,
    "absolute": _absolute,
    "relative": _relative,
    "pinball": _pinball,
    "coverage": _coverage,
    "rating": _rating,
    "scorer": lambda j: scorer_losses(j.spec, j.rows),
}
LEARNED: Mapping[str, Callable[[Judging], dict[str, float]]] = {
    "balanced_error": _learn_balanced,
    "cost": lambda j: {"unit": _dearest(j.objective)},
    "false_discovery_rate": _learn_discovery,
    "log_loss": lambda _: {"unit": float(-np.log(LEAST_PROBABILITY))},
    "squared": _learn_squared,
    "absolute": _learn_absolute,
    "pinball": _learn_absolute,
    "relative": lambda j: {"unit": j.objective.cap or 1.0},
}
"""Metrics that are measured by the champion's past, or whose unit is not the loss."""
