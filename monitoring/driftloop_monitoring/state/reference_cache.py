"""Keeps the references of the models judged last: those of hundreds would take gigabytes."""

from collections.abc import Callable

from driftloop_monitoring.state.reference import Reference

LIMIT_BYTES = 256 << 20
Key = tuple[object, int]
"""Of a model's watch, and the version."""


class ReferenceCache:
    """The one used last stays even if it is larger. Not thread-safe."""

    def __init__(self, limit_bytes: int = LIMIT_BYTES) -> None:
        self._limit = limit_bytes
        self._kept: dict[Key, Reference] = {}
        """The one used last is the last."""

    def get(self, key: Key, load: Callable[[], Reference | None]) -> Reference | None:
        """Return the reference, loaded if it is not kept; None if there is none. Raises what `load`
        does."""
        found = self._kept.pop(key, None) or load()
        if found is not None:
            self._kept[key] = found
            excess = sum(each.nbytes for each in self._kept.values()) - self._limit
            for oldest in list(self._kept)[:-1]:
                if excess <= 0:
                    break
                excess -= self._kept.pop(oldest).nbytes
        return found
