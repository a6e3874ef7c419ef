"""References are kept within a limit, those used last."""

from dataclasses import dataclass
from typing import Any, cast

from driftloop_monitoring.state.reference import Reference
from driftloop_monitoring.state.reference_cache import ReferenceCache


@dataclass
class Sized:
    nbytes: int


def sized(nbytes: int) -> Reference:
    return cast(Reference, cast(Any, Sized(nbytes)))


def test_those_used_last_are_kept() -> None:
    loads: list[str] = []
    cache = ReferenceCache(100)

    def get(name: str, nbytes: int = 40) -> None:
        def load() -> Reference:
            loads.append(name)
            return sized(nbytes)

        assert cache.get((name, 1), load) is not None

    for name in ("a", "b", "a", "c", "a", "b"):
        get(name)
    assert loads == ["a", "b", "c", "b"]
    get("large", 500)
    get("large", 500)
    get("a")
    assert loads == ["a", "b", "c", "b", "large", "a"]


def test_a_model_without_a_reference_is_asked_again() -> None:
    cache = ReferenceCache(100)
    assert cache.get(("m", 1), lambda: None) is None
    assert cache.get(("m", 1), lambda: sized(1)) is not None
