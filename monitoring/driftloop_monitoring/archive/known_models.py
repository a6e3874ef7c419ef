"""Which models there are: a record of any other is a mistake, and would open a table of its own."""

import time
from collections.abc import Callable, Iterable

ASK_AGAIN_S = 1.0
_REMEMBERED = 1_000


class KnownModels:
    """Whether a model was ever deployed. `deployed` gives the names of all that were, and may
    raise.

    A deployment is there before its first prediction, so a name that is not known is asked for. The
    same wrong name is asked for once a second only, whatever a producer sends.
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
