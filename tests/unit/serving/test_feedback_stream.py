import json
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import httpx
import pytest
from fastapi import FastAPI, Request

from driftloop_contracts.errors import RetryLater
from driftloop_contracts.events import LabelEvent
from driftloop_http.http_errors import install_error_handlers
from driftloop_serving.http.feedback import (
    MAX_ERRORS,
    MAX_LINE_BYTES,
    Receipt,
    accept,
    accept_stream,
)

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)


@dataclass
class Kept:
    """Stores labels as long as there is `room`."""

    room: int = 10**9
    labels: list[LabelEvent] = field(default_factory=list)
    largest: int = 0

    def __call__(self, labels: Sequence[LabelEvent]) -> bool:
        self.largest = max(self.largest, len(labels))
        if len(self.labels) + len(labels) > self.room:
            return False
        self.labels += labels
        return True


def line(number: int) -> bytes:
    return json.dumps({"prediction_id": f"p{number}", "label": number}).encode()


async def receipt_of(kept: Kept, chunks: Iterable[bytes]) -> Receipt:
    async def come() -> AsyncIterator[bytes]:
        for chunk in chunks:
            yield chunk

    return await accept_stream(come(), kept, lambda: NOW)


async def test_a_cut_last_line_is_named_and_the_lines_before_are_kept() -> None:
    kept = Kept()
    body = b"\n".join([line(1), line(2), line(3)])[:-5]
    receipt = await receipt_of(kept, [body])
    assert (receipt.accepted, receipt.rejected) == (2, 1)
    assert receipt.errors[0]["line"] == 3
    assert "JSON" in receipt.errors[0]["error"]
    assert [label.prediction_id for label in kept.labels] == ["p1", "p2"]


@pytest.mark.parametrize("size", [1, 7, 1_000_000])
async def test_lines_are_found_however_the_body_is_cut_into_chunks(size: int) -> None:
    kept = Kept()
    body = b"\r\n".join([line(1), b"", b"nonsense", line(2), b'{"prediction_id": ""}', line(3)])
    receipt = await receipt_of(kept, [body[i : i + size] for i in range(0, len(body), size)])
    assert [label.value for label in kept.labels] == [1, 2, 3]
    assert [error["line"] for error in receipt.errors] == [3, 5]


async def test_a_line_without_end_is_refused_and_the_next_kept() -> None:
    kept = Kept()
    endless = [b"x" * 65_536] * (MAX_LINE_BYTES // 65_536 + 2)
    receipt = await receipt_of(kept, [line(1), b"\n", *endless, b"\n", line(2)])
    assert [label.value for label in kept.labels] == [1, 2]
    assert receipt.errors[0]["line"] == 2
    assert "over" in receipt.errors[0]["error"]


async def test_many_labels_are_kept_in_small_batches_and_few_errors_are_told() -> None:
    kept = Kept()
    chunks = [b"\n".join([line(0)] * 500 + [b"{}"] * 500) + b"\n"] * 20
    receipt = await receipt_of(kept, chunks)
    assert (receipt.accepted, receipt.rejected) == (10_000, 10_000)
    assert len(receipt.errors) == MAX_ERRORS
    assert kept.largest <= 64


async def test_without_room_the_client_is_told_from_which_line_to_go_on() -> None:
    kept = Kept(room=70)
    with pytest.raises(RetryLater, match="line 65 "):
        await receipt_of(kept, [b"\n".join(line(i) for i in range(1, 101))])
    assert [label.value for label in kept.labels] == list(range(1, 65))


async def post(kept: Kept, content: bytes, kind: str) -> httpx.Response:
    app = FastAPI()
    install_error_handlers(app)

    @app.post("/feedback")
    async def feedback(request: Request) -> dict[str, object]:
        return await accept(request, kept, 1_000, lambda: NOW)

    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
        return await client.post("/feedback", content=content, headers={"content-type": kind})


async def test_a_stream_may_be_longer_than_any_other_body() -> None:
    kept = Kept()
    body = b"\n".join(line(i) for i in range(1_000)) + b"\nnonsense"
    answer = await post(kept, body, "application/x-ndjson; charset=utf-8")
    assert answer.status_code == 200
    assert answer.json()["accepted"] == 1_000
    assert answer.json()["errors"][0]["line"] == 1_001
    assert (await post(kept, body, "application/json")).status_code == 413


async def test_a_stream_without_a_good_line_is_refused() -> None:
    answer = await post(Kept(), b"a\nb", "application/x-ndjson")
    assert answer.status_code == 400
    assert "line 1" in answer.json()["error"]


async def test_one_label_and_a_list_are_answered_as_before() -> None:
    kept = Kept()
    assert (await post(kept, line(1), "application/json")).json() == {"accepted": 1}
    assert (await post(kept, b"[%s,%s]" % (line(1), line(2)), "")).json() == {"accepted": 2}
    assert (await post(Kept(room=0), line(1), "")).status_code == 503
