"""Checks which models exist: a record of an unknown model is an error, and would create a table."""

import time
from collections.abc import Callable, Iterable

ASK_AGAIN_S = 1.0
_REMEMBERED = 1_000


class KnownModels:
    """Whether a model was ever deployed. `deployed` returns the names of all that were, and may
    raise.

    A deployment is stored before its first prediction, so the names are loaded again for an unknown
    one, but at most once a second for the same name.
    """

    def __init__(
        self,
        deployed: Callable[[], Iterable[str]],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._deployed = deployed
        self._monotonic = monotonic
        self._names: frozenset[str] = frozenset()
        self._refused: dict[str, float] = {}

    def __call__(self, model: str) -> bool:
        if model in self._names:
            return True
        now = self._monotonic()
        if now - self._refused.get(model, -ASK_AGAIN_S) < ASK_AGAIN_S:
            return False
        self._names = frozenset(self._deployed())
        if model not in self._names:
            if len(self._refused) == _REMEMBERED:
                self._refused.clear()
            self._refused[model] = now
        return model in self._names
