"""The properties of one tensor that decoding and encoding need, computed once per signature."""

from dataclasses import dataclass, field
from math import prod

from driftloop_contracts.errors import Rejected, shown
from driftloop_contracts.signature import TensorSpec
from driftloop_serving.inference.datatypes import KINDS, Kind


@dataclass(frozen=True, slots=True)
class InputPlan:
    """The properties of an input tensor.

    counts_rows: the first dimension is the number of rows. shape: None for an unknown rank. column:
    the shape is [-1, 1], whose second dimension clients may omit. fixed_size: the product of the
    fixed dimensions. tail: the dimensions after the rows if the shape is [-1] or [-1, n], the most
    common ones; otherwise None.
    """

    name: str
    datatype: str
    shape: tuple[int, ...] | None
    kind: Kind
    counts_rows: bool
    column: bool
    fixed_size: int
    tail: list[int] | None

    @classmethod
    def of(cls, spec: TensorSpec) -> "InputPlan":
        known = spec.shape or ()
        common = spec.free_rows and len(known) <= 2 and -1 not in known[1:]
        tail = list(known[1:]) if common else None
        return cls(
            spec.name,
            spec.datatype,
            spec.shape,
            KINDS[spec.datatype],
            spec.free_rows,
            spec.shape == (-1, 1),
            prod(d for d in known if d != -1),
            tail,
        )

    def refused(self, why: str) -> Rejected:
        return Rejected(f"input {self.name!r}{why}")

    def fitted(self, shape: object) -> tuple[list[int], int]:
        """Return the shape as the signature wants it, and its number of elements (at least 1).
        Raises Rejected. Allocates nothing, because a client's dimensions may be huge."""
        if type(shape) is not list:
            raise self.refused(": `shape` must be a list of whole numbers from 1")
        if shape and shape[1:] == self.tail and type(shape[0]) is type(shape[-1]) is int:
            size = shape[0] * self.fixed_size
            if size > 0:
                return shape, size
        if self.column and len(shape) == 1:
            shape = [*shape, 1]
        size = 1
        known = [-1] * len(shape) if self.shape is None else self.shape
        fits = len(shape) == len(known)
        for given, wanted in zip(shape, known, strict=False):
            if type(given) is not int or given < 0:
                raise self.refused(": `shape` must be a list of whole numbers from 1")
            if given != wanted and wanted != -1:
                fits = False
            size *= given
        if not fits:
            raise self.refused(f" has the shape {shown(shape)}; it must be {list(known)}")
        if size == 0:
            what = "no rows" if self.counts_rows and shape[0] == 0 else "no elements"
            raise self.refused(f" has {what}")
        return shape, size


@dataclass(slots=True)
class OutputPlan:
    """The properties of an output tensor. `heads`: the JSON before the data, by shape."""

    name: str
    datatype: str
    heads: dict[tuple[int, ...], bytes] = field(default_factory=dict)
