"""Labels as the JSON documents of records on Kafka, which `parse_feedback` reads."""

from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import Any

import orjson

from driftloop_contracts.events import LabelEvent
from driftloop_serving.capture.spool_record import LabelRecord

LIST_BYTES = 64 << 10
"""The longest document with the labels of several rows."""


def label_records(labels: Iterable[LabelEvent]) -> Iterator[LabelRecord]:
    """Yield the records of labels, in order. Those of the rows 0, 1, … of a prediction that differ
    only in their values become one, because writing and reading costs as much as for one."""
    for _, same in groupby(labels, _but_row_and_value):
        rows = list(same)
        if len(rows) > 1 and rows[0].metric == "label" and _counts_up(rows):
            document = _document(rows[0])
            del document["row"]
            encoded = orjson.dumps({**document, "label": [label.value for label in rows]})
            if len(encoded) <= LIST_BYTES:
                yield LabelRecord(rows[0].prediction_id, encoded, len(rows))
                continue
        for label in rows:
            yield LabelRecord(label.prediction_id, orjson.dumps(_document(label)))


def apart(record: LabelRecord) -> Iterator[LabelRecord]:
    """Yield the record's labels, each in a record of its own."""
    if record.rows == 1:
        yield record
        return
    document = orjson.loads(record.document)
    for row, value in enumerate(document.pop("label")):
        one = orjson.dumps({**document, "row": row, "label": value})
        yield LabelRecord(record.prediction_id, one)


def _counts_up(labels: list[LabelEvent]) -> bool:
    return all(label.row == number for number, label in enumerate(labels))


def _but_row_and_value(label: LabelEvent) -> tuple[object, ...]:
    return (
        label.prediction_id, label.metric, label.observed_at, label.received_at, label.source,
        label.tags,
    )  # fmt: skip


def _document(label: LabelEvent) -> dict[str, Any]:
    document = label.to_dict()
    value, metric = document.pop("value"), document.pop("metric")
    if metric == "label":
        return {**document, "label": value}
    return {**document, "metric": metric, "value": value}
