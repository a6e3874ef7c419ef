import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from driftloop_contracts.errors import Rejected
from driftloop_contracts.events import label_table, parse_feedback

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)


def test_one_label() -> None:
    (event,) = parse_feedback({"prediction_id": "p", "label": 1}, NOW)
    assert (event.prediction_id, event.row, event.value, event.observed_at) == ("p", 0, 1, NOW)


def test_a_list_of_labels_numbers_its_rows() -> None:
    events = parse_feedback({"prediction_id": "p", "label": [1, 0, 1]}, NOW)
    assert [(e.row, e.value) for e in events] == [(0, 1), (1, 0), (2, 1)]


def test_a_time_without_a_zone_is_utc_and_others_are_converted() -> None:
    naive, aware = parse_feedback(
        [
            {"prediction_id": "p", "label": 1, "observed_at": "2026-01-01T00:00:00"},
            {"prediction_id": "p", "label": 1, "observed_at": "2026-01-01T01:00:00+01:00"},
        ],
        NOW,
    )
    assert naive.observed_at == aware.observed_at == datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("document", "names"),
    [
        (7, "prediction_id"),
        ({"label": 1}, "prediction_id"),
        ({"prediction_id": "", "label": 1}, "prediction_id"),
        ({"prediction_id": "p"}, "label"),
        ({"prediction_id": "p", "label": {}}, "label"),
        ({"prediction_id": "p", "label": float("nan")}, "finite"),
        ({"prediction_id": "p", "label": 1, "row": -1}, "row"),
        ({"prediction_id": "p", "label": 1, "row": True}, "row"),
        ({"prediction_id": "p", "label": [1], "row": 0}, "row"),
        ({"prediction_id": "p", "label": 1, "observed_at": "yesterday"}, "observed_at"),
        ({"prediction_id": "p", "label": 1, "lable": 1}, "lable"),
        ({"prediction_id": "p", "label": 1, "metric": "score"}, "metric"),
        ([{"prediction_id": "p", "label": 1}, {}], "item 1"),
    ],
)
def test_bad_feedback_is_refused_with_its_place(document: object, names: str) -> None:
    with pytest.raises(Rejected, match=names):
        parse_feedback(document, NOW)


@pytest.mark.parametrize(
    "several",
    [
        {"label": [[1, 0], [0, 1]]},
        {"row": 0, "label": [1, 0]},
        {"metric": "score", "value": {"cat": 1, "dog": 0}},
    ],
)
def test_a_row_with_several_labels_is_refused_with_what_to_do(several: dict[str, object]) -> None:
    with pytest.raises(Rejected, match=r"multi-label.* `row`, a `metric` .* and `value`"):
        parse_feedback({"prediction_id": "p", **several}, NOW)
    kept = [{"prediction_id": "p", "metric": name, "value": 1} for name in ("cat", "dog")]
    assert [label.metric for label in parse_feedback(kept, NOW)] == ["cat", "dog"]


def test_a_label_for_each_of_several_outputs() -> None:
    labels = [{"approve": 1, "amount": 310.5}, {"approve": 0, "amount": None}]
    events = parse_feedback({"prediction_id": "p", "label": labels}, NOW)
    assert [(e.row, e.value) for e in events] == list(enumerate(labels))
    (kept, _) = label_table(events).select(["value", "number"]).to_pylist()
    assert kept == {"value": '{"approve": 1, "amount": 310.5}', "number": None}


@pytest.mark.parametrize(
    ("label", "why"),
    [
        ({}, "must name 1 to 100 outputs"),
        ({str(i): 1 for i in range(101)}, "must name 1 to 100 outputs"),
        ({"": 1}, "the name of an output"),
        ({"approve": [1, 0]}, "the label of 'approve' must be a finite number"),
        ({"approve": float("nan")}, "the label of 'approve' must be a finite number"),
    ],
)
def test_bad_labels_of_several_outputs_are_refused(label: dict[str, object], why: str) -> None:
    with pytest.raises(Rejected, match=why):
        parse_feedback({"prediction_id": "p", "label": label}, NOW)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
fields = st.sampled_from(
    ["prediction_id", "label", "row", "metric", "value", "observed_at", "tags"]
)


@given(st.dictionaries(fields, json_values) | json_values)
def test_any_json_is_either_labels_or_refused(document: object) -> None:
    try:
        events = parse_feedback(document, NOW)
    except Rejected:
        return
    assert [json.loads(value.as_py()) for value in label_table(events)["value"]] == [
        event.value for event in events
    ]


@given(
    st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
)
def test_a_label_record_read_back_is_the_same_label(value: object) -> None:
    (event,) = parse_feedback({"prediction_id": "p", "label": value, "row": 3}, NOW)
    document = event.to_dict()
    again = {**document, "label": document["value"]}
    del again["value"], again["metric"]
    assert parse_feedback(again, NOW) == [event]
