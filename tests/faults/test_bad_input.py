"""What is wrong on the way, sent to a running stack: by other producers of its topics, and to `POST
/feedback`. Each is answered or dead-lettered with a reason, and what is right goes through."""

import json
import socket
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import httpx
import pyarrow as pa
import pytest
from answered_load import answered_load, body_of
from command_line import eventually
from fault_stack import MODEL, FaultStack, until
from lake_account import Outcome, Report, settled
from lake_records import arrow_bytes

from driftloop_bus.kafka_bus import KafkaBus
from driftloop_contracts.events import LABELS, PREDICTIONS, PredictionHeaders, prediction_schema
from driftloop_contracts.ids import new_prediction_id
from driftloop_contracts.signature import Signature, TensorSpec
from driftloop_settings import KafkaSettings

pytestmark = [pytest.mark.faults, pytest.mark.timeout(1200)]

SIGNATURE = Signature((TensorSpec("x", "FP32", (-1, 1)),), (TensorSpec("y", "FP32", (-1, 1)),))
NDJSON = {"content-type": "application/x-ndjson"}
MILLION = 1_000_000


def foreign(at: datetime, replica: str, schema: pa.Schema | None = None) -> bytes:
    """A record of one prediction by a producer that is none of ours."""
    row: dict[str, Any] = {
        "prediction_id": new_prediction_id(),
        "row": 0,
        "version": 1,
        "arm": "stable",
        "predicted_at": at,
        "replica": replica,
        "sequence": 0,
        "latency_s": 0.0,
        "error": None,
        "in_x": 1.0,
        "out_y": 2.0,
    }
    return arrow_bytes(pa.Table.from_pylist([row], schema=schema or prediction_schema(SIGNATURE)))


def test_bad_records_are_dead_letters_with_a_reason_and_stop_nothing(
    stack: FaultStack, report: Report
) -> None:
    now = datetime.now(UTC)
    schema = prediction_schema(SIGNATURE)
    lacking = schema.remove(schema.get_field_index("predicted_at"))
    odd = schema.append(pa.field("extra", pa.int8()))

    def headers(replica: str, model: str = MODEL) -> list[tuple[str, bytes]]:
        return PredictionHeaders(model, 1, replica, 0, 0, 1).encode()

    bad = [
        (PREDICTIONS, b"no arrow", headers("f1"), "not an Arrow stream"),
        (PREDICTIONS, foreign(now, "f2")[:-120], headers("f2"), "not an Arrow stream"),
        (PREDICTIONS, foreign(now, "f3"), [], "bad headers"),
        (PREDICTIONS, foreign(now, "f4"), headers("f4", "nobody"), "nobody"),
        (PREDICTIONS, foreign(now, "f5", lacking), headers("f5"), "`at`"),
        (PREDICTIONS, foreign(now, "f6", odd), headers("f6"), "`extra`"),
        (PREDICTIONS, foreign(now + timedelta(days=400), "f7"), headers("f7"), "impossible time"),
        (PREDICTIONS, foreign(datetime(1905, 1, 1, tzinfo=UTC), "f8"), headers("f8"), "impossible"),
        (LABELS, b"\xff\xfe", [], "cannot be read"),
        (LABELS, b'{"prediction_id": "a", "label": {"is": "no value"}}', [], "label must be"),
        (LABELS, b'{"prediction_id": "a", "label": 1, "row": -1}', [], "`row`"),
        (LABELS, b'{"prediction_id": "a", "label": 1, "observed_at": "3026-01-01"}', [], "time"),
    ]
    began = time.monotonic()
    with answered_load(stack.inference, MODEL) as answered:
        until(lambda: len(answered.rows) > 50, "no answers")
        with closing(KafkaBus(stack.kafka, KafkaSettings()).producer()) as producer:
            for topic, value, head, _ in bad:
                producer.send(topic, value, headers=head)
            producer.flush(60)
        letters = eventually(
            lambda: stack.driftloop("dead-letters"), lambda found: len(found) >= len(bad), 120
        )
    reasons = [letter["reason"] for letter in letters]
    assert len(reasons) == len(bad), reasons
    for _, _, _, reason in bad:
        assert any(reason in found for found in reasons), (reason, reasons)
    account = settled(stack.driftloop, MODEL, answered)
    report.add(Outcome("bad records on the topics", Counter(), account, time.monotonic() - began))
    assert account.sound, account


@pytest.mark.parametrize(
    ("label", "names"),
    [
        ({"label": {"a": 1}}, "label"),
        ({"label": 1, "row": "first"}, "row"),
        ({"label": 1, "row": -1}, "row"),
        ({"label": 1, "observed_at": "yesterday"}, "observed_at"),
        ({"lable": 1}, "lable"),
        ({}, "label"),
    ],
)
def test_a_label_that_is_none_is_refused_with_a_sentence(
    stack: FaultStack, label: dict[str, Any], names: str
) -> None:
    answer = httpx.post(f"{stack.inference}/feedback", json={"prediction_id": "a", **label})
    assert answer.status_code == 400
    assert names in answer.json()["error"]


def test_a_label_for_a_row_that_was_never_predicted_is_kept_and_counted_as_unmatched(
    stack: FaultStack,
) -> None:
    predicted = httpx.post(f"{stack.inference}/v2/models/{MODEL}/infer", content=body_of(1))
    wrong = {"prediction_id": predicted.headers["x-prediction-id"], "row": 7, "label": 1}
    before = unmatched(stack)
    assert httpx.post(f"{stack.inference}/feedback", json=wrong).json() == {"accepted": 1}
    eventually(lambda: unmatched(stack), lambda found: found == before + 1)


def test_a_million_labels_in_one_call_are_all_kept(stack: FaultStack) -> None:
    """As a stream; as one document they are too large, and that is said."""
    before = unmatched(stack)
    document = json.dumps([{"prediction_id": f"batch-{n}", "label": n % 2} for n in range(MILLION)])
    answer = httpx.post(f"{stack.inference}/feedback", content=document.encode(), timeout=120)
    assert answer.status_code == 413
    assert "error" in answer.json()

    def lines() -> Iterator[bytes]:
        for first in range(0, MILLION, 1000):
            yield b"".join(
                b'{"prediction_id": "batch-%d", "label": %d}\n' % (n, n % 2)
                for n in range(first, first + 1000)
            )

    answer = httpx.post(f"{stack.inference}/feedback", content=lines(), headers=NDJSON, timeout=600)
    assert answer.json() == {"accepted": MILLION, "rejected": 0, "errors": []}
    eventually(lambda: unmatched(stack), lambda found: found == before + MILLION, 300)


def test_of_a_stream_that_is_cut_the_whole_lines_are_kept(stack: FaultStack) -> None:
    before = unmatched(stack)
    host, port = urlsplit(stack.inference).netloc.split(":")
    lines = b"".join(b'{"prediction_id": "cut-%d", "label": 1}\n' % n for n in range(100))
    head = (
        "POST /feedback HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/x-ndjson\r\n"
        f"content-length: {2 * len(lines)}\r\n\r\n"
    )
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(head.encode() + lines + b'{"prediction_id": "cut-1')
    eventually(lambda: unmatched(stack), lambda found: found == before + 100)


def unmatched(stack: FaultStack) -> int:
    control = stack.driftloop("status")["endpoints"]["control"]
    found: int = httpx.get(f"{control}/api/labels", timeout=60).json()["unmatched"]
    return found
