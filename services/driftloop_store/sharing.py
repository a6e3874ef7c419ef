"""Which part of a role's work a process takes, as a function of who holds what."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from hashlib import blake2b


@dataclass(frozen=True, slots=True)
class Shared:
    """Who took a part last, and whether its lease still runs."""

    holder: str
    lives: bool


@dataclass(frozen=True, slots=True)
class Plan:
    """take: those that it has and keeps are among them. give_back: others may have them."""

    take: tuple[str, ...]
    give_back: tuple[str, ...]


def share_out(
    shared: Mapping[str, Shared],
    me: str,
    members: Collection[str],
    wanted: Collection[str],
    most: int | None = None,
) -> Plan:
    """Every member takes an equal part, rounded up, of what is wanted. What a process has it keeps
    if it may, and what others hold it leaves alone, so that little moves when members come and go.
    Members prefer different parts of what is free, in an order that depends on both names; who
    takes no more than `most` takes what comes first in `wanted`."""
    fair = -(-len(wanted) // len({me, *members}))
    limit = fair if most is None else min(fair, most)
    order = list(wanted)
    if most is None:
        order.sort(key=lambda one: blake2b(f"{me}/{one}".encode(), digest_size=8).digest())
    mine = {one for one, held in shared.items() if held.holder == me}
    kept = [one for one in order if one in mine][:limit]
    free = [one for one in order if one not in mine and not (one in shared and shared[one].lives)]
    return Plan((*kept, *free[: limit - len(kept)]), tuple(sorted(mine.difference(kept))))
