from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from driftloop_contracts.errors import Rejected
from driftloop_contracts.events import LabelEvent, parse_feedback
from driftloop_contracts.language import CORRECTION, METRICS, PREFERRED, RATING

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)


def said(**opinion: Any) -> list[tuple[str, Any]]:
    events = parse_feedback({"prediction_id": "p", **opinion}, NOW)
    return [(e.metric, e.value) for e in events]


@pytest.mark.parametrize(
    ("opinion", "label"),
    [
        ({"thumb": "up"}, (RATING, 1)),
        ({"thumb": "down"}, (RATING, 0)),
        ({"thumb": True}, (RATING, 1)),
        ({"rating": 0.8}, (RATING, 0.8)),
        ({"rating": 4, "scale": [1, 5]}, (RATING, 0.75)),
        ({"rating": 1, "scale": [1, 5]}, (RATING, 0.0)),
        ({"correction": "Paris"}, (CORRECTION, "Paris")),
        ({"preferred": "019ab4"}, (PREFERRED, "019ab4")),
        ({"thumb": None}, (RATING, None)),
        ({"correction": None}, (CORRECTION, None)),
    ],
)
def test_each_form_becomes_a_label(opinion: dict[str, Any], label: tuple[str, Any]) -> None:
    assert said(**opinion) == [label]


def test_a_rating_and_a_correction_are_said_at_once() -> None:
    assert said(thumb="down", correction="Paris") == [(RATING, 0), (CORRECTION, "Paris")]


def test_a_better_text_is_marked_as_one() -> None:
    (event,) = parse_feedback(
        {"prediction_id": "p", "preferred_text": "Paris", "tags": {"a": "b"}}, NOW
    )
    assert (event.metric, event.tags) == (PREFERRED, {"a": "b", "kind": "text"})


@pytest.mark.parametrize(
    ("opinion", "names"),
    [
        ({"thumb": "sideways"}, '"up"'),
        ({"thumb": 1}, "thumb"),
        ({"thumb": "up", "rating": 1}, "not both"),
        ({"rating": 4}, "scale"),
        ({"rating": "4"}, "rating"),
        ({"rating": float("nan")}, "rating"),
        ({"rating": True}, "rating"),
        ({"rating": 6, "scale": [1, 5]}, "1 to 5"),
        ({"rating": 1, "scale": [5, 1]}, "highest"),
        ({"rating": 1, "scale": 5}, "scale"),
        ({"scale": [1, 5]}, "rating"),
        ({"correction": "  "}, "correction"),
        ({"correction": 7}, "correction"),
        ({"preferred": ["a"]}, "preferred"),
        ({"preferred": "a", "preferred_text": "b"}, "not both"),
        ({"thumb": "up", "label": 1}, "as a separate item"),
        ({"thumb": "up", "metric": "m", "value": 1}, "as a separate item"),
    ],
)
def test_what_is_wrong_is_said(opinion: dict[str, Any], names: str) -> None:
    with pytest.raises(Rejected, match=names):
        said(**opinion)


scales = st.tuples(st.integers(-5, 5), st.integers(6, 20))
opinions = st.one_of(
    st.fixed_dictionaries({"thumb": st.sampled_from(["up", "down", True, False])}),
    st.fixed_dictionaries({"rating": st.floats(0, 1)}),
    st.fixed_dictionaries({"correction": st.text("ab ", min_size=1).filter(str.strip)}),
    scales.flatmap(
        lambda s: st.fixed_dictionaries({"rating": st.integers(*s), "scale": st.just(list(s))})
    ),
)


@given(opinions)
def test_a_label_survives_its_topic(opinion: dict[str, Any]) -> None:
    """What `/feedback` puts on Kafka is read there as the same label; ratings lie in [0, 1]."""
    events = parse_feedback({"prediction_id": "p", **opinion}, NOW)
    again = [parse_feedback(event.to_dict(), NOW) for event in events]
    assert [[event] for event in events] == again
    assert all(_is_known(event) for event in events)


def _is_known(event: LabelEvent) -> bool:
    fits = event.metric != RATING or 0 <= float(event.value or 0) <= 1
    return event.metric in METRICS and fits
