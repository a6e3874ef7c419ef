"""The outcome of a training, for all kinds of models. Stored in the retrain's record and in the
report beside its version."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from driftloop_retrain.record.gate_result import GateResult


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """family, span, rounds: the winning recipe, the rows that it used and its training length.
    rows, fresh_rows: the rows read, in total and since the change. data: their source. metrics,
    champion_metrics: on the hold-out. base_version: the base of an adapter. details: fields
    specific to the kind of model, as JSON."""

    family: str
    span: str
    rounds: int
    rows: int
    fresh_rows: int
    data: str
    trained_rows: int
    holdout_rows: int
    metrics: Mapping[str, float]
    champion_metrics: Mapping[str, float]
    gate: GateResult
    base_version: int | None = None
    details: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return it as flat JSON, without fields that are None."""
        own = {name: getattr(self, name) for name in _FIELDS if name != "details"}
        own["gate"] = self.gate.to_dict()
        return {name: value for name, value in own.items() if value is not None} | dict(
            self.details
        )

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> "Outcome":
        own = {name: value[name] for name in _FIELDS if name in value}
        details = {name: value[name] for name in value if name not in _FIELDS}
        return cls(**{**own, "gate": GateResult.from_dict(value["gate"]), "details": details})


_FIELDS = tuple(each.name for each in fields(Outcome))
