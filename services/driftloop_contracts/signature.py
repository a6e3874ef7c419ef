"""A model's signature: the names, datatypes and shapes of what goes in and comes out."""

from dataclasses import dataclass
from typing import Any, Literal

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
    """One tensor. `shape` has -1 where a dimension is free; the first dimension counts rows."""

    name: str
    datatype: Datatype
    shape: tuple[int, ...]

    @property
    def scalar(self) -> bool:
        """Whether a row of this tensor is one value ([-1] or [-1, 1]): a plain column in the
        lake."""
        return self.shape[1:] in ((), (1,))

    def to_dict(self) -> dict[str, Any]:
        return {"name": self.name, "datatype": self.datatype, "shape": list(self.shape)}

    @classmethod
    def from_dict(cls, value: dict[str, Any]) -> "TensorSpec":
        return cls(value["name"], value["datatype"], tuple(value["shape"]))


@dataclass(frozen=True, slots=True)
class Signature:
    """Inputs and outputs of a model, in the graph's order."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    def to_dict(self) -> dict[str, Any]:
        return {
            "inputs": [t.to_dict() for t in self.inputs],
            "outputs": [t.to_dict() for t in self.outputs],
        }

    @classmethod
    def from_dict(cls, value: dict[str, Any]) -> "Signature":
        return cls(
            tuple(TensorSpec.from_dict(t) for t in value["inputs"]),
            tuple(TensorSpec.from_dict(t) for t in value["outputs"]),
        )
