"""Feedback on a language model's answer, in the forms that applications have.

A thumb, a rating on any scale, the text that the answer should have been, or a better answer: each
becomes a label with one of the metrics of `driftloop_contracts.language`, so that readers of labels
handle only one form.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from driftloop_contracts.errors import Rejected
from driftloop_contracts.language import CORRECTION, PREFERRED, RATING

FIELDS = frozenset({"thumb", "rating", "scale", "correction", "preferred", "preferred_text"})
THUMBS = {"up": 1, "down": 0}


@dataclass(frozen=True, slots=True)
class Opinion:
    """`value` None retracts an earlier opinion; `tags` are added to those of the label."""

    metric: str
    value: float | str | None
    tags: Mapping[str, str] = field(default_factory=dict)


def opinions_of(item: Mapping[str, object], where: str) -> list[Opinion]:
    """Return the opinions in a feedback item; empty if it has none of FIELDS. An item may have
    several.

    `thumb`: "up", "down", true or false. `rating`: 0 to 1, or on `scale` [lowest, highest].
    `correction`: the text that the answer should have been. `preferred`: the prediction id of a
    better answer, or `preferred_text`, its text. Raises Rejected with a sentence that starts with
    `where`.
    """
    if "thumb" in item and "rating" in item:
        raise Rejected(where + "give `thumb` or `rating`, not both")
    if "preferred" in item and "preferred_text" in item:
        raise Rejected(where + "give `preferred` or `preferred_text`, not both")
    if "scale" in item and "rating" not in item:
        raise Rejected(where + "`scale` needs a `rating`")
    return list(_read(item, where))


def _read(item: Mapping[str, object], where: str) -> Iterator[Opinion]:
    if "thumb" in item:
        yield Opinion(RATING, _thumb(item["thumb"], where))
    if "rating" in item:
        yield Opinion(RATING, _rating(item["rating"], item.get("scale", (0, 1)), where))
    if "correction" in item:
        yield Opinion(CORRECTION, _text(item["correction"], where, "correction"))
    if "preferred" in item:
        yield Opinion(PREFERRED, _text(item["preferred"], where, "preferred"))
    if "preferred_text" in item:
        text = _text(item["preferred_text"], where, "preferred_text")
        yield Opinion(PREFERRED, text, {"kind": "text"})


def _thumb(value: object, where: str) -> int | None:
    if value is None or isinstance(value, bool):
        return None if value is None else int(value)
    if not isinstance(value, str) or value not in THUMBS:
        raise Rejected(where + '`thumb` must be "up", "down", true, false, or null to take it back')
    return THUMBS[value]


def _rating(value: object, scale: object, where: str) -> float | None:
    if not isinstance(scale, list | tuple) or len(scale) != 2 or not all(map(_is_number, scale)):
        raise Rejected(where + "`scale` must be [lowest, highest], such as [1, 5]")
    low, high = scale
    if not low < high:
        raise Rejected(where + f"`scale` [{low}, {high}]: the highest must be above the lowest")
    if value is None:
        return None
    if not _is_number(value) or not low <= value <= high:
        hint = "" if (low, high) != (0, 1) else "; for another scale add e.g. `scale`: [1, 5]"
        raise Rejected(where + f"`rating` must be a number from {low} to {high}{hint}")
    return float((value - low) / (high - low))


def _text(value: object, where: str, name: str) -> str | None:
    if value is not None and (not isinstance(value, str) or not value.strip()):
        raise Rejected(where + f"`{name}` must be a text, or null to take it back")
    return value if isinstance(value, str) else None


def _is_number(value: object) -> bool:
    finite = isinstance(value, int | float) and abs(value) < float("inf")
    return finite and not isinstance(value, bool)
