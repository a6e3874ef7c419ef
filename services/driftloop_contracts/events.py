"""Events on Kafka and their columns.

A record on `driftloop.predictions` packs the predictions of one replica with one model version in a
short interval. Its value is an Arrow IPC stream with one record batch of
`prediction_schema(signature)`, its key is the replica's id (which preserves the order per replica),
and its headers are `PredictionHeaders`. A record on `driftloop.labels` is what `parse_feedback`
reads: a JSON label, or a list of them.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

import pyarrow as pa

from driftloop_contracts.errors import Rejected
from driftloop_contracts.event_times import Bounds, parse_time
from driftloop_contracts.ids import MAX_ID_CHARS, PredictionId
from driftloop_contracts.opinions import FIELDS as OPINION_FIELDS
from driftloop_contracts.opinions import opinions_of
from driftloop_contracts.signature import Signature, TensorSpec

PREDICTIONS = "driftloop.predictions"
LABELS = "driftloop.labels"
FINDINGS = "driftloop.findings"
TOPICS = (PREDICTIONS, LABELS, FINDINGS)

INPUT_PREFIX, OUTPUT_PREFIX = "in_", "out_"

ARROW_TYPES: dict[str, pa.DataType] = {
    "BOOL": pa.bool_(), "BYTES": pa.string(),
    # Delta has no unsigned integers: the next larger signed type is used.
    "UINT8": pa.int16(), "UINT16": pa.int32(), "UINT32": pa.int64(), "UINT64": pa.decimal128(20, 0),
    "INT8": pa.int8(), "INT16": pa.int16(), "INT32": pa.int32(), "INT64": pa.int64(),
    "FP16": pa.float32(), "FP32": pa.float32(), "FP64": pa.float64(),
}  # fmt: skip

FIXED_COLUMNS: tuple[pa.Field, ...] = (
    pa.field("prediction_id", pa.string(), nullable=False),
    pa.field("row", pa.int32(), nullable=False),
    pa.field("version", pa.int32(), nullable=False),
    pa.field("arm", pa.string(), nullable=False),
    pa.field("predicted_at", pa.timestamp("us", tz="UTC"), nullable=False),
    pa.field("replica", pa.string(), nullable=False),
    # Numbers the answered requests of (replica, model, version) from 0 without gaps.
    pa.field("sequence", pa.int64(), nullable=False),
    # Seconds from the request's last byte to its record; equal for all rows of a request.
    pa.field("latency_s", pa.float32()),
    # The error that the request was answered with: of a failed model, or `Timeout`; else null.
    pa.field("error", pa.string()),
    # A salted hash of the routing key if there is a canary; otherwise null.
    pa.field("routing_key_hash", pa.int64()),
    # Of the W3C trace that the request is part of, 32 hexadecimal digits; null without tracing.
    pa.field("trace_id", pa.string()),
)
LATER_COLUMNS = frozenset({"routing_key_hash", "trace_id"})
"""Fixed columns that records of earlier releases lack."""

EARLIER_NAMES = {"at": "predicted_at"}
"""Columns that had other names in earlier releases, with their current names. Old records and
tables stay readable."""


def with_todays_names(predictions: pa.Table) -> pa.Table:
    """Rename the columns of predictions of this or an earlier release to the current names."""
    names = predictions.schema.names
    return predictions.rename_columns([EARLIER_NAMES.get(name, name) for name in names])


def column_type(tensor: TensorSpec) -> pa.DataType:
    """Return the lake's type for one row of a tensor: a scalar, or a list in row-major order."""
    value = ARROW_TYPES[tensor.datatype]
    return value if tensor.scalar else pa.list_(value)


def prediction_schema(signature: Signature) -> pa.Schema:
    """Return the columns of a prediction record: the fixed ones, then `in_<name>`, then
    `out_<name>`."""
    inputs = [pa.field(INPUT_PREFIX + t.name, column_type(t)) for t in signature.accepted]
    outputs = [pa.field(OUTPUT_PREFIX + t.name, column_type(t)) for t in signature.outputs]
    return pa.schema([*FIXED_COLUMNS, *inputs, *outputs])


@dataclass(frozen=True, slots=True)
class PredictionHeaders:
    """The properties of a prediction record that a reader needs before decoding it. `client_ids`:
    whether a client chose the id of one of its predictions, so that another record may contain a
    retry."""

    model: str
    version: int
    replica: str
    first_sequence: int
    last_sequence: int
    rows: int
    client_ids: bool = False

    def encode(self) -> list[tuple[str, bytes]]:
        return [(name, str(value).encode()) for name, value in asdict(self).items()]

    @classmethod
    def decode(cls, headers: list[tuple[str, bytes]]) -> "PredictionHeaders":
        """Parse the headers. Raises Rejected if one is missing or not a number."""
        found = {name: value.decode("utf-8", "replace") for name, value in headers}
        try:
            return cls(
                found["model"],
                int(found["version"]),
                found["replica"],
                int(found["first_sequence"]),
                int(found["last_sequence"]),
                int(found["rows"]),
                found.get("client_ids") == str(True),
            )
        except (KeyError, ValueError) as error:
            raise Rejected(f"prediction record with bad headers: {error}") from None


LabelValue = bool | int | float | str | None
MAX_LABELS_OF_A_ROW = 100


@dataclass(frozen=True, slots=True)
class LabelEvent:
    """One label or feedback value for one row of a prediction. Times are aware UTC."""

    prediction_id: PredictionId
    row: int
    value: "LabelValue | dict[str, LabelValue]"
    """Of a model with several labelled outputs: by their names. Later labels of a row replace the
    values that they name."""
    observed_at: datetime
    received_at: datetime
    source: str = "api"
    metric: str = "label"
    tags: dict[str, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Not by `asdict`, which copies deeply: fifteen times slower."""
        return {
            "prediction_id": self.prediction_id,
            "row": self.row,
            "value": self.value,
            "observed_at": self.observed_at.isoformat(),
            "received_at": self.received_at.isoformat(),
            "source": self.source,
            "metric": self.metric,
            "tags": self.tags,
        }


LABEL_SCHEMA = pa.schema(
    [
        pa.field("prediction_id", pa.string(), nullable=False),
        pa.field("row", pa.int32(), nullable=False),
        pa.field("metric", pa.string(), nullable=False),
        # The value as JSON, which preserves its type; `number`: as a number (booleans 0/1), else
        # null.
        pa.field("value", pa.string(), nullable=False),
        pa.field("number", pa.float64()),
        pa.field("observed_at", pa.timestamp("us", tz="UTC"), nullable=False),
        pa.field("received_at", pa.timestamp("us", tz="UTC"), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("tags", pa.string(), nullable=False),
    ]
)


def parse_feedback(
    document: object, now: datetime, bounds: Bounds | None = None
) -> list[LabelEvent]:
    """Parse the labels of a `POST /feedback` body (one object or a list) or of a label record.

    `label` with a list and without `row` labels the rows 0, 1, … in order. Defaults: `row` is 0,
    `observed_at` is `now`. For language models see also `opinions_of`. bounds: of the times; None:
    those for events that arrive at `now`. Raises Rejected with a sentence that names the item and
    the field.
    """
    allowed = bounds or Bounds.at(now)
    items = document if isinstance(document, list) else [document]
    events: list[LabelEvent] = []
    for number, item in enumerate(items):
        where = f"feedback item {number}: " if isinstance(document, list) else "feedback: "
        events.extend(_parse_item(item, now, allowed, where))
    return events


_FIELDS = frozenset(
    {"prediction_id", "row", "label", "metric", "value", "observed_at", "received_at", "source",
     "tags", *OPINION_FIELDS}
)  # fmt: skip


SEVERAL_VALUES = (
    "if a model has several labelled outputs, send an object with a value for each, such as "
    '{"approve": 1, "amount": 310}; if an output has several values (multi-label), send each as an '
    "item of its own, with `row`, a `metric` that you name, and `value`"
)


def _parse_item(item: object, now: datetime, bounds: Bounds, where: str) -> list[LabelEvent]:
    if not isinstance(item, dict):
        raise Rejected(where + "must be an object with `prediction_id` and `label`")
    if not item.keys() <= _FIELDS:
        unknown = min(item.keys() - _FIELDS)
        raise Rejected(where + f"unknown field `{unknown}`; known are {sorted(_FIELDS)}")
    prediction_id = item.get("prediction_id")
    if not isinstance(prediction_id, str) or not 0 < len(prediction_id) <= MAX_ID_CHARS:
        raise Rejected(where + f"`prediction_id` must be a text of 1 to {MAX_ID_CHARS} characters")
    metric, value = "", None
    opinions = opinions_of(item, where)
    if opinions:
        if not {"label", "metric", "value"}.isdisjoint(item):
            raise Rejected(where + "`label`, `metric` and `value` must be sent as a separate item")
    elif "label" in item:
        if item.get("metric", "label") != "label":
            raise Rejected(where + "give `label`, or `metric` and `value`, not both")
        metric, value = "label", item["label"]
    elif isinstance(item.get("metric"), str) and "value" in item:
        metric, value = item["metric"], item["value"]
    else:
        raise Rejected(
            where + "needs `label`, or `metric` and `value`; of a language model's answer `thumb`, "
            "`rating`, `correction` or `preferred`"
        )
    row = item.get("row")
    if row is not None and (
        isinstance(row, bool) or not isinstance(row, int) or not 0 <= row < 2**31
    ):
        raise Rejected(where + "`row` must be a whole number from 0")
    observed, received = (
        _time(item.get(name), now, bounds, f"{where}`{name}`")
        for name in ("observed_at", "received_at")
    )
    source, tags = item.get("source", "api"), item.get("tags", {})
    if not isinstance(source, str) or len(source) > MAX_ID_CHARS:
        raise Rejected(where + "`source` must be a short text")
    if not isinstance(tags, dict) or not all(isinstance(v, str) for v in tags.values()):
        raise Rejected(where + "`tags` must be an object of texts")
    if opinions:
        return [
            LabelEvent(
                PredictionId(prediction_id),
                row or 0,
                o.value,
                observed,
                received,
                source,
                o.metric,
                {**tags, **o.tags},
            )
            for o in opinions
        ]
    if isinstance(value, list):
        if row is not None:
            raise Rejected(
                where + f"a list labels the rows 0, 1, … in order, without `row`; {SEVERAL_VALUES}"
            )
        rows = list(enumerate(value))
    else:
        rows = [(row or 0, value)]
    for _, one in rows:
        if isinstance(one, dict) and metric == "label":
            _check_labels(one, where)
        elif not _is_value(one):
            hint = f"; {SEVERAL_VALUES}" if isinstance(one, list | dict) else ""
            raise Rejected(
                where + f"a label must be a finite number, a text, a boolean or null{hint}"
            )
    return [
        LabelEvent(
            PredictionId(prediction_id), index, one, observed, received, source, metric, tags
        )
        for index, one in rows
    ]


def _is_value(value: object) -> bool:
    finite = not isinstance(value, float) or abs(value) < float("inf")
    return finite and isinstance(value, bool | int | float | str | None)


def _check_labels(labels: dict[str, Any], where: str) -> None:
    """Raises Rejected unless they are a value for each of some outputs."""
    if not 0 < len(labels) <= MAX_LABELS_OF_A_ROW:
        raise Rejected(
            where + f"an object as `label` must name 1 to {MAX_LABELS_OF_A_ROW} outputs, such as "
            '{"approve": 1, "amount": 310}'
        )
    for name, value in labels.items():
        if not 0 < len(name) <= MAX_ID_CHARS:
            raise Rejected(where + f"the name of an output has 1 to {MAX_ID_CHARS} characters")
        if not _is_value(value):
            raise Rejected(
                where + f"the label of {name!r} must be a finite number, a text, a boolean or null"
            )


def _time(value: object, default: datetime, bounds: Bounds, what: str) -> datetime:
    return bounds.check(default if value is None else parse_time(value, what), what)


def label_table(events: Sequence[LabelEvent]) -> pa.Table:
    """Convert labels to rows of `LABEL_SCHEMA`."""
    columns = {
        "prediction_id": [event.prediction_id for event in events],
        "row": [event.row for event in events],
        "metric": [event.metric for event in events],
        "value": [
            str(event.value) if type(event.value) is int else json.dumps(event.value)
            for event in events
        ],
        "number": [
            float(event.value) if isinstance(event.value, (bool, int, float)) else None
            for event in events
        ],
        "observed_at": [event.observed_at for event in events],
        "received_at": [event.received_at for event in events],
        "source": [event.source for event in events],
        "tags": [
            json.dumps(event.tags, sort_keys=True) if event.tags else "{}" for event in events
        ],
    }
    return pa.table(columns, LABEL_SCHEMA)
