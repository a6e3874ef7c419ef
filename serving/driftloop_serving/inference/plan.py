"""The properties of a signature that decoding and encoding need, computed once per signature."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np

from driftloop_contracts.errors import Rejected
from driftloop_contracts.signature import Signature
from driftloop_serving.inference.template import Template
from driftloop_serving.inference.tensor_plan import InputPlan, OutputPlan

MAX_REMEMBERED = 1024


@dataclass(slots=True)
class Plan:
    signature: Signature
    inputs: dict[str, InputPlan]
    outputs: dict[str, OutputPlan]
    input_names: list[str]
    """The inputs that a request must contain."""
    row_names: list[str]
    """The inputs whose first dimension is the number of rows."""
    unranked_names: list[str]
    """The inputs of unknown rank; they determine the number of rows if no other input does."""
    output_names: tuple[str, ...]
    starts: dict[tuple[str, int], bytes] = field(default_factory=dict)
    """The start of an answer's JSON, by model and version."""
    templates: tuple[Template, ...] = ()
    unlike: int = 0
    """The number of requests that matched no template."""

    @classmethod
    def of(cls, signature: Signature) -> "Plan":
        return cls(
            signature,
            {spec.name: InputPlan.of(spec) for spec in signature.accepted},
            {spec.name: OutputPlan(spec.name, spec.datatype) for spec in signature.outputs},
            [spec.name for spec in signature.inputs],
            [spec.name for spec in signature.inputs if spec.free_rows],
            [spec.name for spec in signature.inputs if spec.shape is None],
            tuple(spec.name for spec in signature.outputs),
        )

    def ordered(self, found: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return the inputs in the signature's order. Raises Rejected if an input without default
        is missing."""
        if [*found] == self.input_names:
            return found
        for name in self.input_names:
            if name not in found:
                raise Rejected(f"input {name!r} is missing")
        return {name: found[name] for name in self.inputs if name in found}


_plans: dict[int, Plan] = {}
"""Keyed by the identity of the signature, which the plan keeps alive: hashing or comparing a
signature for every request would cost as much as decoding it."""


def plan_of(signature: Signature) -> Plan:
    plan = _plans.get(id(signature))
    if plan is None:
        plan = remember(_plans, id(signature), Plan.of(signature))
    return plan


def rows_of(inputs: Mapping[str, np.ndarray], plan: Plan) -> int:
    """Return the common number of rows of the inputs; 1 if no input has rows. Raises Rejected if
    they differ."""
    rows = 0
    for name in plan.row_names:
        here = inputs[name].shape[0]
        if here != rows and rows:
            sizes = ", ".join(f"{n}: {inputs[n].shape[0]}" for n in plan.row_names)
            raise Rejected(f"the inputs have different numbers of rows ({sizes})")
        rows = here
    return rows or _unranked_rows(inputs, plan)


def _unranked_rows(inputs: Mapping[str, np.ndarray], plan: Plan) -> int:
    """Return the common first dimension of the inputs of unknown rank; 1 if they differ, since the
    graph may accept that."""
    found = {inputs[name].shape[0] for name in plan.unranked_names if inputs[name].shape}
    return found.pop() if len(found) == 1 else 1


K = TypeVar("K")
V = TypeVar("V")


def remember(known: dict[K, V], key: K, value: V) -> V:
    """Add an entry to a bounded cache, which is cleared when full."""
    if len(known) >= MAX_REMEMBERED:
        known.clear()
    known[key] = value
    return value
