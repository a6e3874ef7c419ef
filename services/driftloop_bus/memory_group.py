"""Assigns partitions to the members of a group; plays the part of a Kafka coordinator in the
fake."""

import itertools
from collections.abc import Sequence

from driftloop_bus.port import Movement, Partition


class Group:
    """Assigns partitions in turn. A partition reaches its next owner only after the former one has
    settled or left, as with Kafka's cooperative assignors."""

    def __init__(self) -> None:
        self._numbers = itertools.count()
        self._held: dict[str, set[Partition]] = {}
        self._expelled: dict[str, set[Partition]] = {}

    def join(self, instance: str | None) -> str:
        """Return the name of a new member, which takes over from an earlier one with the same
        instance."""
        name = instance or f"member-{next(self._numbers)}"
        self._held[name] = set()
        return name

    def leave(self, name: str) -> None:
        self._expelled[name] = self._held.pop(name, set())

    def settle(self, name: str, places: Sequence[Partition]) -> Movement:
        """Return the partitions that a member must release and those that it may have now."""
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
