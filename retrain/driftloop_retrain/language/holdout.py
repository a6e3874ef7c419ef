"""How examples are parted: no prompt is ever in more than one part. Pure.

The newest prompts are the hold-out that the gate judges by, so that it looks at what came after
what was trained on; of the others a share, chosen by their hash, is for validation. A prompt is as
old as its first
answer: one that is asked again and again stays in its part.
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
    """Which groups are not for training."""

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
"""Of the prompts, where the share that is wanted would be fewer than the gate needs."""


def part(
    items: Sequence[Grouped], holdout_share: float, validation_share: float, at_least: int = 1
) -> Groups:
    """at_least: the prompts that the hold-out should have, if it need not take more than
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
    # The group is a hash of the prompt already.
    return Groups(frozenset(newest), frozenset(sorted(older)[:validated]))


def mixed(examples: Sequence[T], replay: Sequence[T], share: float) -> list[T]:
    """The examples with as many of the newest replayed ones as make these `share` of the whole."""
    wanted = min(len(replay), round(len(examples) * share / (1.0 - share)))
    return [*examples, *replay[len(replay) - wanted :]]
