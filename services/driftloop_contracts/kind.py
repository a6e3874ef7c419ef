"""The kinds of models that driftloop knows. A model is of one kind for life: its spec says which.

A kind says what is true of it everywhere. What one layer does for a kind (judge, train, place, take
in) is in that layer, in a table keyed by kind; nobody else asks what kind a model is. See ADR 20.
"""

from dataclasses import dataclass
from typing import Literal

from driftloop_contracts.errors import Rejected
from driftloop_contracts.language import SIGNATURE
from driftloop_contracts.signature import Signature

Task = Literal["classification", "regression", "generation"]
Runtime = Literal["onnx", "vllm"]


@dataclass(frozen=True, slots=True, eq=False)
class ModelKind:
    """runtime: what serves it, as a spec names it. tasks: how its labels may compare with its
    predictions. signature: that of all models of the kind; None: each graph has its own."""

    name: str
    runtime: Runtime
    tasks: tuple[Task, ...]
    signature: Signature | None = None


TABULAR = ModelKind("tabular", "onnx", ("classification", "regression"))
"""Rows of features in, a class or a value out; served by ONNX Runtime."""
LANGUAGE = ModelKind("language", "vllm", ("generation",), SIGNATURE)
"""Conversations in, text out (`driftloop_contracts.language`); served by vLLM."""
KINDS = (TABULAR, LANGUAGE)


def kind_of(runtime: str) -> ModelKind:
    """The kind that a runtime serves. Raises Rejected for an unknown one."""
    for kind in KINDS:
        if kind.runtime == runtime:
            return kind
    raise Rejected(f"runtime {runtime!r}: it is {' or '.join(kind.runtime for kind in KINDS)}")
