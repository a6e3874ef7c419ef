"""What answers in the shadow, as its rollout sees it."""

from collections.abc import Callable
from typing import Protocol

import pyarrow as pa

from driftloop_contracts.model import ModelSpec
from driftloop_rollout.machine import Rollout
from driftloop_rollout.shadow_process import Answered


class ShadowGraph(Protocol):
    """See `ShadowProcess`."""

    @property
    def idle(self) -> bool: ...
    def ask(self, rows: pa.Table) -> None: ...
    def answered(self) -> Answered | None: ...
    def close(self) -> None: ...


OpenGraph = Callable[[Rollout, ModelSpec], ShadowGraph]
"""Raises Rejected if the candidate's answers could not be compared."""
