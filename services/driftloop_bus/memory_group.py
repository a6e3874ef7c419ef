"""Who of a group reads which partition: the fake's part that a Kafka coordinator plays."""

import itertools
from collections.abc import Sequence

from driftloop_bus.port import Movement, Partition


class Group:
    """Shares partitions out in turn. A partition reaches its next owner only after the former one
    has settled (or has left): as with Kafka's cooperative assignors."""

    def __init__(self) -> None:
        self._numbers = itertools.count()
        self._held: dict[str, set[Partition]] = {}
        self._expelled: dict[str, set[Partition]] = {}

    def join(self, instance: str | None) -> str:
        """A new member's name; it takes over what the one of the same instance held."""
        name = instance or f"member-{next(self._numbers)}"
        self._held[name] = set()
        return name

    def leave(self, name: str) -> None:
        self._expelled[name] = self._held.pop(name, set())

    def settle(self, name: str, places: Sequence[Partition]) -> Movement:
        """What a member must let go of and what it may have now."""
        lost = self._expelled.pop(name, set())
        held = self._held.setdefault(name, set())
        members = sorted(self._held)
        owners = {p: members[i % len(members)] for i, p in enumerate(sorted(places))}
        wanted = {place for place, owner in owners.items() if owner == name}
        gone = held - wanted
        held -= gone
        others = set().union(*(h for n, h in self._held.items() if n != name))
        came = wanted - held - others
        held |= came
        return Movement(frozenset(lost | gone), frozenset(came))
