"""Splits examples so that no prompt is in more than one part. Pure.

The newest prompts are the hold-out for the gate, so that it tests on data newer than the training
data. Of the others a share, chosen by hash, is for validation. The age of a prompt is that of its
first answer, so a repeated prompt stays in its part.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Generic, Protocol, TypeVar

from driftloop_contracts.errors import Rejected


class Grouped(Protocol):
    @property
    def group(self) -> str: ...
    @property
    def at(self) -> datetime: ...


T = TypeVar("T", bound=Grouped)


@dataclass(frozen=True, slots=True)
class ExampleSplit(Generic[T]):
    train: tuple[T, ...]
    validation: tuple[T, ...]
    holdout: tuple[T, ...]


@dataclass(frozen=True, slots=True)
class Groups:
    """The groups that are not for training."""

    holdout: frozenset[str]
    validation: frozenset[str]

    def parts(self, items: Sequence[T]) -> ExampleSplit[T]:
        held = self.holdout | self.validation
        return ExampleSplit(
            tuple(i for i in items if i.group not in held),
            tuple(i for i in items if i.group in self.validation),
            tuple(i for i in items if i.group in self.holdout),
        )


MOST_HELD_OUT = 0.4
"""The largest share of the prompts to hold out if the configured share has fewer than the gate
needs."""


def part(
    items: Sequence[Grouped], holdout_share: float, validation_share: float, at_least: int = 1
) -> Groups:
    """Split the groups. at_least: the number of prompts to hold out, unless that exceeds
    MOST_HELD_OUT of them. Raises Rejected if there are too few different prompts for three
    parts."""
    first: dict[str, datetime] = {}
    for item in items:
        first[item.group] = min(item.at, first.get(item.group, item.at))
    held = max(round(len(first) * holdout_share), min(at_least, int(len(first) * MOST_HELD_OUT)))
    validated = round(len(first) * validation_share)
    if not (held and validated and len(first) > held + validated):
        raise Rejected(
            f"{len(first)} different prompts are too few to part into training, validation and "
            f"hold-out"
        )
    by_age = sorted(first, key=lambda group: (first[group], group))
    older, newest = by_age[: len(by_age) - held], by_age[len(by_age) - held :]
    # The group is a hash of the prompt.
    return Groups(frozenset(newest), frozenset(sorted(older)[:validated]))


def mixed(examples: Sequence[T], replay: Sequence[T], share: float) -> list[T]:
    """Return the examples together with the newest replayed ones, which make up `share` of the
    result."""
    wanted = min(len(replay), round(len(examples) * share / (1.0 - share)))
    return [*examples, *replay[len(replay) - wanted :]]
