"""Prints predictions and labels from Kafka, as JSON lines."""

from collections.abc import Iterator
from contextlib import closing

import pyarrow as pa

from driftloop_bus.port import Bus, Message, Partition
from driftloop_contracts.errors import NotFound, Rejected, RetryLater, Unavailable
from driftloop_contracts.events import LABELS, PREDICTIONS, PredictionHeaders, with_todays_names
from driftloop_lake.json_rows import json_line
from driftloop_lake.views import KEY, column_names

POLL_S = 0.5


def follow(
    bus: Bus, model: str, labels: bool, from_start: bool, limit: int | None
) -> Iterator[str]:
    """Yield lines of one JSON object each: a row of a prediction, as in the view `predictions`, or,
    with `labels`, a label ({"event": "label", …}; predictions then have "event": "prediction").

    Ends only after `limit` lines. Raises Unavailable if no broker answers. It joins no group and
    commits nothing, so archivers are not affected.
    """
    topics = (PREDICTIONS, LABELS) if labels else (PREDICTIONS,)
    return _lines(bus, model, _positions(bus, topics, from_start), limit, named=labels)


def _lines(
    bus: Bus, model: str, positions: dict[Partition, int], limit: int | None, *, named: bool
) -> Iterator[str]:
    left = limit
    with closing(bus.consumer()) as consumer:
        consumer.assign(positions)
        while True:
            for message in consumer.poll(POLL_S):
                for line in lines_of(message, model, named=named):
                    yield line
                    if left is not None:
                        left -= 1
                        if left <= 0:
                            return


def _positions(bus: Bus, topics: tuple[str, ...], from_start: bool) -> dict[Partition, int]:
    try:
        if from_start:
            return {(topic, p): -1 for topic in topics for p in bus.partitions(topic)}
        return {(t, p): offset for t in topics for p, offset in bus.end_offsets(t).items()}
    except (RetryLater, NotFound) as error:
        raise Unavailable(f"nothing to follow: {error}") from error


def lines_of(message: Message, model: str, *, named: bool = False) -> Iterator[str]:
    """Yield the lines of a message for the model; none if it is invalid (the archiver stores those
    as dead letters). `named`: include the event type."""
    value = message.value or b""
    if message.topic == LABELS:
        yield _labelled_line(value)
        return
    try:
        headers = PredictionHeaders.decode([(name, v or b"") for name, v in message.headers])
        if headers.model != model:
            return
        rows = with_todays_names(pa.ipc.open_stream(value).read_all())
    except (Rejected, pa.ArrowException, OSError):
        return
    names = {c: c for c in KEY} | column_names(rows.schema.names, KEY)
    if not set(names) <= set(rows.schema.names):
        return
    rows = rows.select(list(names)).rename_columns(list(names.values()))
    event = {"event": "prediction"} if named else {}
    for row in rows.to_pylist():
        yield json_line(event | row) + "\n"


def _labelled_line(value: bytes) -> str:
    text = value.decode("utf-8", "backslashreplace").strip()
    if text.startswith("{") and text != "{}":
        return '{"event":"label",' + " ".join(text[1:].split("\n")) + "\n"
    return json_line({"event": "label", "unreadable": text[:1000]}) + "\n"
