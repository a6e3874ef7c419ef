"""The kinds of models that driftloop supports. The spec of a model sets its kind permanently.

A kind holds the properties that all layers use. What a single layer does for a kind (judge, train,
place, accept) is in that layer, in a table keyed by kind; no other code asks for the kind. See ADR
20.
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
    """runtime: what serves it, as named in a spec. tasks: how labels can be compared with
    predictions. signature: the one of all models of this kind; None: each graph has its own.
    has_engine: an engine of its own holds its versions and answers, with replicas in front.
    has_conversations: its rows are conversations, asked for by OpenAI's API. functions: options
    that name a function."""

    name: str
    runtime: Runtime
    tasks: tuple[Task, ...]
    signature: Signature | None = None
    has_engine: bool = False
    has_conversations: bool = False
    functions: tuple[str, ...] = ()


TABULAR = ModelKind("tabular", "onnx", ("classification", "regression"))
"""Features to a class or a value; served by ONNX Runtime."""
LANGUAGE = ModelKind(
    "language",
    "vllm",
    ("generation",),
    SIGNATURE,
    has_engine=True,
    has_conversations=True,
    functions=("scorer", "judge"),
)
"""Conversations to text (`driftloop_contracts.language`); served by vLLM."""
KINDS = (TABULAR, LANGUAGE)


def kind_of(runtime: str) -> ModelKind:
    """Return the kind of a runtime. Raises Rejected for an unknown one."""
    for kind in KINDS:
        if kind.runtime == runtime:
            return kind
    raise Rejected(f"runtime {runtime!r}: it is {' or '.join(kind.runtime for kind in KINDS)}")
