"""Writes a retrain's progress into its record."""

import time
from dataclasses import replace
from functools import partial

from driftloop_contracts.retrain import Stage
from driftloop_store import Store

INTERVAL_S = 0.5
"""The minimum interval between updates of the number; a new sentence is written at once."""


class Progress:
    def __init__(self, store: Store, retrain_id: str) -> None:
        self._store, self._id = store, retrain_id
        self._message, self._written = "", 0.0
        self.stage = "start"
        """The stage that was reported last."""

    def tell(self, stage: str, fraction: float, message: str) -> None:
        """Report progress. fraction: of the whole retrain, 0 to 1."""
        self.stage = stage
        now = time.monotonic()
        if message == self._message and now - self._written < INTERVAL_S:
            return
        self._message, self._written = message, now
        told = Stage(stage, round(fraction, 3), message)
        self._store.change_retrain(self._id, partial(replace, progress=told))
