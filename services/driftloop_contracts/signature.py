"""A model's signature: names, datatypes and shapes of its inputs and outputs."""

from dataclasses import dataclass
from typing import Any, Literal

from driftloop_contracts.errors import Rejected

Datatype = Literal[
    "BOOL",
    "UINT8",
    "UINT16",
    "UINT32",
    "UINT64",
    "INT8",
    "INT16",
    "INT32",
    "INT64",
    "FP16",
    "FP32",
    "FP64",
    "BYTES",
]
"""Datatypes of the Open Inference Protocol v2."""


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One tensor. `shape`: -1 for a free dimension; the first dimension is the number of rows.
    None: the graph does not specify the rank, so each request chooses one."""

    name: str
    datatype: Datatype
    shape: tuple[int, ...] | None

    @property
    def scalar(self) -> bool:
        """Whether a row of this tensor is one value ([-1] or [-1, 1]): a plain column in the
        lake."""
        return self.shape is not None and self.shape[1:] in ((), (1,))

    @property
    def free_rows(self) -> bool:
        """Whether the first dimension, the number of rows, is free."""
        return self.shape is not None and self.shape[:1] == (-1,)

    @property
    def row_shape(self) -> tuple[int, ...] | None:
        """The dimensions after the rows."""
        return None if self.shape is None else self.shape[1:]

    def to_dict(self) -> dict[str, Any]:
        shape = None if self.shape is None else list(self.shape)
        return {"name": self.name, "datatype": self.datatype, "shape": shape}

    @classmethod
    def from_dict(cls, value: dict[str, Any]) -> "TensorSpec":
        shape = value["shape"]
        return cls(value["name"], value["datatype"], None if shape is None else tuple(shape))


MAX_WIDTH = 4_000
"""The most inputs and outputs of a model. Each is a column of its table in the lake, which allows
4,096 (`driftloop_lake.columns`), including those for the prediction itself and for changed
types."""


def check_width(width: int) -> None:
    """Raises Rejected for more inputs and outputs together than can be captured."""
    if width > MAX_WIDTH:
        raise Rejected(
            f"the model has {width:,} inputs and outputs, and each is a column of its table in the "
            f"lake, which holds {MAX_WIDTH:,}; put columns of one type together into one input of "
            "the shape [-1, n]"
        )


@dataclass(frozen=True, slots=True)
class Signature:
    """Inputs and outputs of a model, in the graph's order. `optional`: inputs with a default in the
    graph, which a request may override. They are captured, but neither monitored nor trained on."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    optional: tuple[TensorSpec, ...] = ()

    def check_width(self) -> None:
        """Raises Rejected if the model is wider than can be captured."""
        check_width(len(self.accepted) + len(self.outputs))

    @property
    def accepted(self) -> tuple[TensorSpec, ...]:
        """All inputs that a request may contain."""
        return self.inputs + self.optional

    def to_dict(self) -> dict[str, Any]:
        written = {
            "inputs": [t.to_dict() for t in self.inputs],
            "outputs": [t.to_dict() for t in self.outputs],
        }
        if self.optional:
            written["optional"] = [t.to_dict() for t in self.optional]
        return written

    @classmethod
    def from_dict(cls, value: dict[str, Any]) -> "Signature":
        return cls(
            tuple(TensorSpec.from_dict(t) for t in value["inputs"]),
            tuple(TensorSpec.from_dict(t) for t in value["outputs"]),
            tuple(TensorSpec.from_dict(t) for t in value.get("optional", ())),
        )
