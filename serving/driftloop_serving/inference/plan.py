"""What decoding and encoding need of a signature, worked out once instead of at every request."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from driftloop_contracts.errors import Rejected, shown
from driftloop_contracts.signature import Signature, TensorSpec
from driftloop_serving.inference.datatypes import KINDS, Kind

if TYPE_CHECKING:
    from driftloop_serving.inference.template import Template

MAX_REMEMBERED = 1024


@dataclass(frozen=True, slots=True)
class InputPlan:
    """`counts_rows`: its first dimension is the number of rows; `column`: [-1, 1], for which
    clients may leave out the second dimension; `fixed_size`: the product of its dimensions that
    aren't free;
    `tail`: the dimensions behind the rows of the commonest shapes, [-1] and [-1, n]; else None."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    kind: Kind
    counts_rows: bool
    column: bool
    fixed_size: int
    tail: list[int] | None

    @classmethod
    def of(cls, spec: TensorSpec) -> "InputPlan":
        common = spec.shape[:1] == (-1,) and len(spec.shape) <= 2 and -1 not in spec.shape[1:]
        tail = list(spec.shape[1:]) if common else None
        return cls(
            spec.name,
            spec.datatype,
            spec.shape,
            KINDS[spec.datatype],
            spec.shape[:1] == (-1,),
            spec.shape == (-1, 1),
            prod(d for d in spec.shape if d != -1),
            tail,
        )

    def refused(self, why: str) -> Rejected:
        return Rejected(f"input {self.name!r}{why}")

    def fitted(self, shape: object) -> tuple[list[int], int]:
        """The shape as the signature wants it, and its number of elements, at least 1.
        Raises Rejected. Allocates nothing: a client's dimensions may be of any size."""
        if type(shape) is not list:
            raise self.refused(": `shape` must be a list of whole numbers from 1")
        if shape and shape[1:] == self.tail and type(shape[0]) is type(shape[-1]) is int:
            size = shape[0] * self.fixed_size
            if size > 0:
                return shape, size
        if self.column and len(shape) == 1:
            shape = [*shape, 1]
        size = 1
        fits = len(shape) == len(self.shape)
        for given, wanted in zip(shape, self.shape, strict=False):
            if type(given) is not int or given < 0:
                raise self.refused(": `shape` must be a list of whole numbers from 1")
            if given != wanted and wanted != -1:
                fits = False
            size *= given
        if not fits:
            raise self.refused(f" has the shape {shown(shape)}; it must be {list(self.shape)}")
        if size == 0:
            what = "no rows" if self.counts_rows and shape[0] == 0 else "no elements"
            raise self.refused(f" has {what}")
        return shape, size


@dataclass(slots=True)
class OutputPlan:
    """`heads`: the tensor's JSON up to its data, for shapes that were answered."""

    name: str
    datatype: str
    heads: dict[tuple[int, ...], bytes] = field(default_factory=dict)


@dataclass(slots=True)
class Plan:
    signature: Signature
    inputs: dict[str, InputPlan]
    outputs: dict[str, OutputPlan]
    input_names: list[str]
    row_names: list[str]
    """The inputs whose first dimension counts rows."""
    output_names: tuple[str, ...]
    starts: dict[tuple[str, int], bytes] = field(default_factory=dict)
    """The beginning of an answer's JSON, by model and version."""
    templates: "tuple[Template, ...]" = ()
    unlike: int = 0
    """Requests that were like no template."""

    @classmethod
    def of(cls, signature: Signature) -> "Plan":
        return cls(
            signature,
            {spec.name: InputPlan.of(spec) for spec in signature.inputs},
            {spec.name: OutputPlan(spec.name, spec.datatype) for spec in signature.outputs},
            [spec.name for spec in signature.inputs],
            [spec.name for spec in signature.inputs if spec.shape[:1] == (-1,)],
            tuple(spec.name for spec in signature.outputs),
        )

    def ordered(self, found: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The inputs in the signature's order. Raises Rejected if one is missing."""
        if [*found] == self.input_names:
            return found
        for name in self.input_names:
            if name not in found:
                raise Rejected(f"input {name!r} is missing")
        return {name: found[name] for name in self.input_names}


_plans: dict[int, Plan] = {}
"""By the identity of the signature, which the plan holds so that it stays one: hashing or comparing
a signature at every request would cost as much as decoding it."""


def plan_of(signature: Signature) -> Plan:
    plan = _plans.get(id(signature))
    if plan is None:
        plan = remember(_plans, id(signature), Plan.of(signature))
    return plan


def rows_of(inputs: Mapping[str, np.ndarray], plan: Plan) -> int:
    """The number of rows that the inputs agree on; 1 where none counts rows. Raises Rejected."""
    rows = 0
    for name in plan.row_names:
        here = inputs[name].shape[0]
        if here != rows and rows:
            sizes = ", ".join(f"{n}: {inputs[n].shape[0]}" for n in plan.row_names)
            raise Rejected(f"the inputs have different numbers of rows ({sizes})")
        rows = here
    return rows or 1


K = TypeVar("K")
V = TypeVar("V")


def remember(known: dict[K, V], key: K, value: V) -> V:
    """Puts it into a bounded memory; a full one begins again."""
    if len(known) >= MAX_REMEMBERED:
        known.clear()
    known[key] = value
    return value
