"""Times of labels: HTTP refuses at once what the archiver would, and nothing that it would not."""

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lake_records import message

from driftloop_contracts.errors import Rejected
from driftloop_contracts.event_times import Bounds
from driftloop_contracts.events import LABELS, label_table
from driftloop_contracts.ids import time_of
from driftloop_lake.records import DeadLetter, LabelRecord
from driftloop_monitoring.archive.bus_records import read_record
from driftloop_serving.http.feedback import accept_stream, labels_of

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
EDGES = [
    "9999-12-31T23:59:59-12:00", "0001-01-01T00:00:00+14:00", "0001-01-01T00:00:00",
    "9999-12-31T23:59:59Z", "1969-12-31T23:59:59Z", "2100-01-01T00:00:00Z",
    "2026-11-25T12:00:00Z", "2026-11-26T12:00:00Z", "2016-12-31T23:59:60Z", "2026-02-30",
    "2026-11-24T24:00:00", "2026-11-24 25:00", "", " ", "NaN", "\u0662\u0660\u0662\u0666-11-24",
    1764000000, 1e300, -1, True, [], {}, float("nan"),
]  # fmt: skip
FINE = [
    "1970-01-01T00:00:00Z", "2026-11-25T11:59:59Z", "2026-11-24", "20261124T120000Z", "2026-W48-2",
    "2026-11-24T12:00:00.123456789+05:45", "1970-01-01T00:00:00-12:00", None,
]  # fmt: skip


def body(**times: object) -> bytes:
    return json.dumps({"prediction_id": "p", "label": 1, **times}).encode()


@pytest.mark.parametrize("name", ["observed_at", "received_at"])
@pytest.mark.parametrize("value", EDGES)
def test_a_time_that_cannot_be_is_refused_at_once_with_the_field(name: str, value: object) -> None:
    with pytest.raises(Rejected, match=f"`{name}`|not valid JSON"):
        labels_of(body(**{name: value}), NOW)


@pytest.mark.parametrize("value", FINE)
def test_a_time_that_can_be_is_taken(value: object) -> None:
    (label,) = labels_of(body(observed_at=value), NOW)
    assert label.observed_at.tzinfo is UTC


async def test_the_other_lines_of_a_stream_are_kept() -> None:
    async def lines() -> AsyncIterator[bytes]:
        for value in (*EDGES, *FINE):
            yield body(observed_at=value) + b"\n"

    kept: list[object] = []
    receipt = await accept_stream(lines(), lambda labels: kept.extend(labels) is None, lambda: NOW)
    assert (receipt.accepted, receipt.rejected) == (len(FINE), len(EDGES))
    assert len(kept) == len(FINE)
    assert receipt.errors[0] == {
        "line": 1,
        "error": "feedback: `observed_at` '9999-12-31T23:59:59-12:00' is outside of the years 1 "
        "to 9999 in UTC",
    }


zones = st.timedeltas(timedelta(hours=-23, minutes=-59), timedelta(hours=23, minutes=59))
written = st.one_of(
    st.sampled_from(EDGES + FINE),
    st.datetimes().map(datetime.isoformat),
    st.tuples(st.datetimes(), zones).map(lambda pair: f"{pair[0].isoformat()}{_offset(pair[1])}"),
    st.timedeltas(timedelta(days=-3), timedelta(days=3)).map(lambda d: (NOW + d).isoformat()),
    st.text(max_size=20),
)
ids = (
    st.text(min_size=1, max_size=20)
    | st.uuids().map(str)
    | st.just("ffffffff-ffff-7fff-bfff-ffffffffffff")
)
values = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
    | st.lists(st.integers(0, 3) | st.none(), max_size=3)
)  # fmt: skip


def _offset(zone: timedelta) -> str:
    minutes = int(zone.total_seconds() // 60)
    return f"{'-' if minutes < 0 else '+'}{abs(minutes) // 60:02}:{abs(minutes) % 60:02}"


@given(
    st.fixed_dictionaries(
        {"prediction_id": ids, "label": values},
        optional={"observed_at": written, "received_at": written, "source": st.text(max_size=5)},
    ),
    st.timedeltas(timedelta(hours=-23), timedelta(days=30)),
)
def test_what_http_accepts_the_archiver_accepts(
    document: dict[str, object], skew: timedelta
) -> None:
    """`skew`: how far the archiver's clock is ahead when it reads the label."""
    try:
        accepted = labels_of(json.dumps(document).encode(), NOW)
    except Rejected:
        return
    for label in accepted:
        sent = message(LABELS, json.dumps(label.to_dict()).encode(), 0)
        record = read_record(sent, Bounds.at(NOW + skew))
        assert isinstance(record, LabelRecord)
        assert record.labels == (label,)
        assert label_table([label]).num_rows == 1
        time_of(label.prediction_id)


def test_a_foreign_producers_label_is_judged_by_the_same_rule() -> None:
    for value in EDGES:
        sent = message(LABELS, body(observed_at=value), 0)
        late = value in ("2026-11-25T12:00:00Z",)  # another clock may have accepted it
        assert isinstance(read_record(sent, Bounds.at(NOW)), LabelRecord if late else DeadLetter)
