import json
from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from driftloop_contracts.events import LabelEvent, parse_feedback
from driftloop_serving.capture.label_documents import LIST_BYTES, apart, label_records
from driftloop_serving.capture.spool_record import LabelRecord, append_label, decode, frames

NOW = datetime(2026, 11, 30, tzinfo=UTC)

values = st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=3)
items = st.fixed_dictionaries(
    {
        "prediction_id": st.sampled_from("ab"),
        "label": values
        | st.lists(values | st.dictionaries(st.sampled_from("xy"), values, min_size=1), max_size=5),
    },
    optional={"source": st.sampled_from("st"), "tags": st.just({"by": "hand"})},
)
scores = st.fixed_dictionaries(
    {"prediction_id": st.sampled_from("ab"), "metric": st.just("score"), "value": values},
    optional={"row": st.integers(0, 3)},
)


def read(record: LabelRecord) -> list[LabelEvent]:
    return parse_feedback(json.loads(record.document), NOW)


@given(st.lists(items | scores, max_size=8))
def test_records_of_labels_hold_them_in_their_order(documents: list[dict[str, object]]) -> None:
    labels = parse_feedback(documents, NOW)
    records = list(label_records(labels))
    assert [label for record in records for label in read(record)] == labels
    assert [len(read(record)) for record in records] == [record.rows for record in records]


def test_the_labels_of_a_request_are_one_record_and_one_frame() -> None:
    labels = parse_feedback({"prediction_id": "p", "label": [0, 1] * 500}, NOW)
    (record,) = label_records(labels)
    assert (record.prediction_id, record.rows) == ("p", 1000)
    frame = bytearray()
    append_label(frame, record, 3)
    ((payload, _),) = frames(bytes(frame), 3)
    assert decode(payload) == record


def test_long_labels_stay_apart() -> None:
    labels = parse_feedback({"prediction_id": "p", "label": ["x" * LIST_BYTES] * 2}, NOW)
    assert [record.rows for record in label_records(labels)] == [1, 1]


def test_a_record_is_parted_where_kafka_takes_only_smaller_ones() -> None:
    labels = parse_feedback({"prediction_id": "p", "label": [0, "b", None]}, NOW)
    (record,) = label_records(labels)
    assert [label for one in apart(record) for label in read(one)] == labels
    (alone,) = label_records(labels[:1])
    assert list(apart(alone)) == [alone]


def test_labels_of_some_rows_keep_their_rows() -> None:
    sent = [{"prediction_id": "p", "label": 1, "row": row} for row in (1, 2)]
    labels = parse_feedback(sent, NOW)
    assert [read(record)[0].row for record in label_records(labels)] == [1, 2]
