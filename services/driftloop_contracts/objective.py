"""What a team calls worse: decisive metrics of a model, and guardrails. Values only; what a
metric makes of rows is in `driftloop_evaluation`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StrictBool,
    ValidationError,
    model_validator,
)

from driftloop_contracts.errors import Rejected, listed
from driftloop_contracts.kind import Task

Reads = Literal["class", "probability", "set", "value", "interval", "rating", "outputs", "answer"]
"""What of a model's answers a metric compares with labels; `answer`: it needs none."""
ClassName = StrictBool | int | float | str


@dataclass(frozen=True, slots=True)
class MetricKind:
    """task: of the models that it fits, None: all. takes, needs: its own keys. margin: where the
    spec gives none."""

    task: Task | None
    reads: Reads
    takes: frozenset[str] = frozenset()
    needs: frozenset[str] = frozenset()
    margin: float | str = "10%"


_POSITIVE = frozenset({"positive", "threshold"})
METRICS: Mapping[str, MetricKind] = {
    "error": MetricKind("classification", "class", frozenset({"threshold"}), margin=0.02),
    "balanced_error": MetricKind("classification", "class", frozenset({"threshold"}), margin=0.02),
    "cost": MetricKind(
        "classification", "class", _POSITIVE | {"false_positive", "false_negative", "costs"}
    ),
    "miss_rate": MetricKind("classification", "class", _POSITIVE, margin=0.02),
    "false_positive_rate": MetricKind("classification", "class", _POSITIVE, margin=0.02),
    "false_discovery_rate": MetricKind("classification", "class", _POSITIVE, margin=0.02),
    "brier": MetricKind("classification", "probability", frozenset({"positive"})),
    "log_loss": MetricKind("classification", "probability", frozenset({"positive"})),
    "ranking": MetricKind("classification", "probability", frozenset({"positive"}), margin=0.02),
    "top_k_error": MetricKind(
        "classification", "probability", frozenset({"k"}), frozenset({"k"}), 0.02
    ),
    "set_coverage": MetricKind("classification", "set", margin=0.02),
    "squared": MetricKind("regression", "value", frozenset({"cap"})),
    "absolute": MetricKind("regression", "value", frozenset({"cap"})),
    "relative": MetricKind("regression", "value", frozenset({"cap"})),
    "pinball": MetricKind(
        "regression", "value", frozenset({"cap", "quantile"}), frozenset({"quantile"})
    ),
    "coverage": MetricKind(
        "regression",
        "interval",
        frozenset({"lower", "upper"}),
        frozenset({"lower", "upper"}),
        0.02,
    ),
    "rating": MetricKind("generation", "rating", margin=0.05),
    "scorer": MetricKind("generation", "answer", margin=0.05),
}
_SPOKEN: Mapping[str, str] = {
    "error": "the error rate",
    "balanced_error": "the balanced error rate",
    "cost": "the cost per row",
    "miss_rate": "the miss rate",
    "false_positive_rate": "the false positive rate",
    "false_discovery_rate": "the false discovery rate",
    "brier": "the Brier score",
    "log_loss": "the log loss",
    "ranking": "the ranking error (1 - AUC)",
    "top_k_error": "the error rate",
    "squared": "the squared error",
    "absolute": "the absolute error",
    "relative": "the relative error",
    "pinball": "the pinball loss",
    "coverage": "the share of values outside the interval",
    "set_coverage": "the share of labels outside the set",
    "rating": "the loss of ratings (1 - rating)",
    "scorer": "the loss by options.scorer (1 - score)",
}
OWN = MetricKind(None, "outputs")
"""Of `module:function`."""
_SHARED = frozenset({"metric", "margin", "output", "label", "classes"})


def _margin(value: float | str) -> float | str:
    share = relative(value)
    if share is None:
        try:
            value = float(value)
        except ValueError:
            raise ValueError(f"margin {value!r} is neither a number nor a share like 10%") from None
    if not 0 < (float(value) if share is None else share) < float("inf"):
        raise ValueError(f"margin {value} must be above 0")
    return value


def relative(margin: float | str) -> float | None:
    """The share of the champion's value that a margin like `10%` is; None for a plain number."""
    if not isinstance(margin, str) or not margin.strip().endswith("%"):
        return None
    try:
        return float(margin.strip()[:-1]) / 100
    except ValueError:
        raise ValueError(f"margin {margin!r} is neither a number nor a share like 10%") from None


class Objective(BaseModel):
    """A metric, and the harm that matters.

    metric: a key of METRICS, or `module:function`, a function (labels, outputs) → a loss in [0, 1]
    for each row, NaN for a row that does not count. margin: in the metric's own unit, or `10%` of
    the champion's value. output: the tensor that is compared; None: found. label: the key, if
    labels are mappings such as {"approve": 1, "amount": 310}.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    metric: str
    margin: Annotated[
        float | str | None, AfterValidator(lambda m: None if m is None else _margin(m))
    ] = None
    output: str | None = None
    label: str | None = None
    classes: tuple[ClassName, ...] = ()
    """In the order of the output's probabilities; none: the model's."""
    positive: ClassName | None = None
    """The class that counts as positive."""
    threshold: float | None = Field(None, gt=0, lt=1)
    """Of a probability: from here on the answer is the positive class."""
    false_positive: float | None = Field(None, ge=0, allow_inf_nan=False)
    false_negative: float | None = Field(None, ge=0, allow_inf_nan=False)
    costs: dict[str, dict[str, Annotated[float, Field(ge=0, allow_inf_nan=False)]]] | None = None
    """costs[label][answer], for more than two classes."""
    k: int | None = Field(None, ge=1)
    quantile: float | None = Field(None, gt=0, lt=1)
    lower: str | None = None
    upper: str | None = None
    cap: float | None = Field(None, gt=0, allow_inf_nan=False)
    """The error that counts 1."""

    @property
    def kind(self) -> MetricKind:
        return METRICS.get(self.metric, OWN)

    @property
    def own(self) -> bool:
        """Whether it is a user's function."""
        return self.metric not in METRICS

    @property
    def name(self) -> str:
        """Of the metric among others of its model."""
        parts = [self.metric, self.label, self.positive, self.quantile, self.k]
        return " ".join(str(part) for part in parts if part is not None)

    @property
    def in_sentence(self) -> str:
        """What its value is, for people: "the cost per row", "the miss rate of class 'fraud'"."""
        said = _SPOKEN.get(self.metric, f"the mean loss by {self.metric}")
        if self.k is not None:
            said += f" of the {self.k} most likely classes"
        if self.quantile is not None:
            said += f" of the quantile {self.quantile:g}"
        if self.positive is not None and self.metric != "cost":
            said += f" of class {self.positive!r}"
        return said if self.label is None else f"{said} ({self.label})"

    @property
    def said_margin(self) -> float | str:
        return self.kind.margin if self.margin is None else self.margin

    @model_validator(mode="after")
    def _fits(self) -> "Objective":
        if self.own and ":" not in self.metric:
            known = listed(METRICS)
            raise ValueError(f"metric {self.metric!r} is unknown: {known}, or module:function")
        kind, said = self.kind, self.model_fields_set - _SHARED
        said = {key for key in said if getattr(self, key) is not None}
        if extra := sorted(said - kind.takes):
            raise ValueError(f"metric {self.metric!r} takes no `{extra[0]}`")
        if missing := sorted(kind.needs - said):
            raise ValueError(f"metric {self.metric!r} needs `{missing[0]}`")
        if self.metric == "cost":
            self._check_costs(said)
        return self

    def _check_costs(self, said: set[str]) -> None:
        binary = {"false_positive", "false_negative"}
        if self.costs is None:
            if not binary <= said:
                raise ValueError(
                    "metric 'cost' needs `false_positive` and `false_negative`, or `costs`"
                )
            if max(self.false_positive or 0.0, self.false_negative or 0.0) <= 0:
                raise ValueError("metric 'cost': one of the costs must be above 0")
            return
        if said & (binary | {"positive"}):
            raise ValueError("metric 'cost' takes `costs` or `false_positive`, not both")
        classes = {*self.costs, *(answer for row in self.costs.values() for answer in row)}
        for label in sorted(classes):
            if lacking := sorted(classes - {label} - set(self.costs.get(label, ()))):
                raise ValueError(
                    f"`costs` does not say what the answer {lacking[0]!r} costs where the label is "
                    f"{label!r}"
                )
        if not any(cost > 0 for row in self.costs.values() for cost in row.values()):
            raise ValueError("metric 'cost': one of the costs must be above 0")

    def to_dict(self) -> dict[str, Any]:
        return self.model_dump(mode="json", exclude_none=True, exclude_defaults=True)


def in_words(objectives: Sequence[Objective], guardrails: Sequence[Objective], task: str) -> str:
    """What a model is judged by, for people. task: what it is judged by without an objective."""
    default = {"classification": "error", "regression": "squared error", "generation": "rating"}
    names = ", ".join(one.name for one in objectives) or default.get(
        task, "nothing: it has no task"
    )
    guards = ", ".join(guard.name for guard in guardrails)
    return f"{names}; guardrails: {guards}" if guards else names


def parse_objective(value: object, where: str) -> Objective:
    """From a spec: a mapping, or the name of a metric. Raises Rejected, naming `where` it stood."""
    if isinstance(value, Objective):
        return value
    if isinstance(value, str):
        value = {"metric": value}
    if not isinstance(value, Mapping):
        raise Rejected(f"`{where}` must name a metric, such as {{metric: error, margin: 0.02}}")
    try:
        return Objective.model_validate(value)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in (where, *first["loc"]))
        raise Rejected(f"`{place}`: {first['msg'].removeprefix('Value error, ')}") from None


def parse_objectives(value: object) -> tuple[Objective, ...]:
    """One of what `parse_objective` reads, or a list of them."""
    if not isinstance(value, Sequence) or isinstance(value, str):
        return (parse_objective(value, "objective"),)
    if not value:
        raise Rejected("`objective` is an empty list: name a metric, or leave it out")
    return _listed(value, "objective")


def parse_guardrails(value: object) -> tuple[Objective, ...]:
    """A list of what `parse_objective` reads."""
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise Rejected("`guardrails` must be a list of metrics")
    return _listed(value, "guardrails")


def _listed(value: Sequence[object], where: str) -> tuple[Objective, ...]:
    found = tuple(parse_objective(item, f"{where}[{i}]") for i, item in enumerate(value))
    names = [one.name for one in found]
    for name in names:
        if names.count(name) > 1:
            raise Rejected(f"`{where}`: {name!r} is there twice")
    return found
