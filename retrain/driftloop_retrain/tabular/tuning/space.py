"""What a parameter of a recipe may be. A recipe has a `space`, parameters by name; the setting
`retrain.spaces` replaces single ones of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from driftloop_contracts.errors import Rejected
from driftloop_settings.loop_sections import SearchedParameter

GRID_POINTS = 3
"""Of a range, for a search by grid: its ends and its middle."""

Value = float | int | bool | str


@dataclass(frozen=True, slots=True)
class Parameter:
    """Numbers from `low` to `high` (log: by their logarithm, whole: without fraction), or one of
    `values`. With `values` the rest means nothing."""

    low: float = 0.0
    high: float = 1.0
    log: bool = False
    whole: bool = False
    values: tuple[Value, ...] = ()

    def grid(self) -> tuple[Value, ...]:
        if self.values:
            return self.values
        low, high = float(self.low), float(self.high)
        points: Any = (np.geomspace if self.log else np.linspace)(low, high, GRID_POINTS)
        found = [round(float(point)) if self.whole else float(point) for point in points]
        return tuple(dict.fromkeys(found))

    def to_dict(self) -> dict[str, Any]:
        if self.values:
            return {"values": list(self.values)}
        return {"low": self.low, "high": self.high, "scale": "log" if self.log else "linear"}


Space = Mapping[str, Parameter]
Parameters = Mapping[str, Value]


def between(low: float, high: float, *, log: bool = False) -> Parameter:
    return Parameter(low, high, log)


def whole(low: int, high: int, *, log: bool = False) -> Parameter:
    return Parameter(low, high, log, whole=True)


def one_of(*values: Value) -> Parameter:
    return Parameter(values=values)


def spaces_of(
    recipes: Sequence[Any], own: Mapping[str, Mapping[str, SearchedParameter]]
) -> dict[str, Space]:
    """The spaces of the recipes that have one, by recipe. own: the user's. Raises Rejected if that
    names a recipe that does not compete."""
    names = [recipe.name for recipe in recipes]
    for name in own:
        if name not in names:
            raise Rejected(f"retrain.spaces: {name!r} is not among {', '.join(names)}")
    spaces: dict[str, Space] = {}
    for recipe in recipes:
        given = {
            key: Parameter(**said.model_dump()) for key, said in own.get(recipe.name, {}).items()
        }
        if space := {**getattr(recipe, "space", {}), **given}:
            spaces[recipe.name] = space
    return spaces


def grid_of(spaces: Mapping[str, Space]) -> list[tuple[str, Parameters]]:
    """All combinations, families in turn, so that a budget covers each of them."""
    columns = [
        [(family, dict(zip(space, point, strict=True))) for point in product(*_points(space))]
        for family, space in spaces.items()
    ]
    longest = max((len(column) for column in columns), default=0)
    return [column[i] for i in range(longest) for column in columns if i < len(column)]


def _points(space: Space) -> list[tuple[Value, ...]]:
    return [parameter.grid() for parameter in space.values()]
