"""What answers requests: a graph that is in memory, or one that may leave it."""

from collections.abc import Callable, Mapping
from typing import Protocol

import numpy as np

from driftloop_contracts.errors import DriftloopError
from driftloop_contracts.signature import Signature

Then = Callable[[DriftloopError | None], None]
"""Called on the event loop: with None, or why the graph cannot be in memory now."""


class Graph(Protocol):
    """`awake`: whether it can run at once. `wake`: loads it, and then calls `then`."""

    @property
    def signature(self) -> Signature: ...
    @property
    def awake(self) -> bool: ...
    def wake(self, then: Then) -> None: ...
    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]: ...
