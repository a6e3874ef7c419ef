"""Answers and what people said of them, as they come out of the lake."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
import pytest

from driftloop_lake.port import Pin
from driftloop_retrain.language.training_answers import (
    Conversation,
    Message,
    TrainingAnswer,
    parse_conversation,
    read_answers,
)

NOW = datetime(2026, 11, 24, tzinfo=UTC)
LOST = "0192d3c0-0000-7000-8000-000000000009"


class SmallLake:
    """What `labelled` gives of these answers and of feedback by metric and prediction id."""

    def __init__(self, answers: list[dict[str, Any]], told: dict[str, dict[str, Any]]) -> None:
        self._answers, self._told = answers, told

    def labelled(
        self, model: str, pin: Pin, *, metric: str, only_labelled: bool, **_: Any
    ) -> pa.Table:
        told = self._told.get(metric, {})
        rows = [
            {**row, **_label(told.get(row["prediction_id"]))}
            for row in self._answers
            if not only_labelled or row["prediction_id"] in told
        ]
        schema = pa.schema(
            [
                ("prediction_id", pa.string()),
                ("row", pa.int32()),
                ("version", pa.int32()),
                ("predicted_at", pa.timestamp("us", tz="UTC")),
                ("error", pa.string()),
                ("in_messages", pa.string()),
                ("in_operation", pa.string()),
                ("in_parameters", pa.string()),
                ("out_text", pa.string()),
                ("out_tool_calls", pa.string()),
                ("out_finish_reason", pa.string()),
                ("label", pa.string()),
                ("label_number", pa.float64()),
                ("label_tags", pa.string()),
            ]
        )
        return pa.Table.from_pylist(rows, schema=schema)


def _label(value: Any) -> dict[str, Any]:
    number = float(value) if isinstance(value, (int, float)) else None
    return {
        "label": None if value is None else json.dumps(value),
        "label_number": number,
        "label_tags": "{}",
    }


def row(number: int, **changed: Any) -> dict[str, Any]:
    return {
        "prediction_id": f"p{number}",
        "row": 0,
        "version": 1,
        "predicted_at": NOW + timedelta(seconds=number),
        "error": None,
        "in_messages": json.dumps([{"role": "user", "content": "Q?"}]),
        "in_operation": "chat.completions",
        "in_parameters": "{}",
        "out_text": f"answer {number}",
        "out_tool_calls": "",
        "out_finish_reason": "stop",
        **changed,
    }


def read(answers: list[dict[str, Any]], **told: dict[str, Any]) -> list[TrainingAnswer]:
    return read_answers(SmallLake(answers, told), "m", Pin(1, 1), NOW, 100)  # type: ignore[arg-type]


def test_feedback_is_put_beside_its_answer_oldest_first() -> None:
    second, first = row(2), row(1)
    found = read([second, first], label={"p1": 0.5}, correction={"p2": "better"})
    assert [(a.prediction_id, a.rating, a.correction) for a in found] == [
        ("p1", 0.5, None),
        ("p2", None, "better"),
    ]
    assert found[0].conversation == Conversation((Message("user", "Q?"),))


def test_a_preferred_answer_is_another_one_or_a_text() -> None:
    rows = [row(1), row(2), row(3), row(4)]
    found = read(rows, preferred={"p1": "p4", "p2": "my own words", "p3": LOST})
    assert [a.preferred for a in found] == ["answer 4", "my own words", None, None]
    assert [a.preferred_lost for a in found] == [False, False, True, False]


def test_embeddings_are_left_out_and_tools_are_no_conversation_of_texts() -> None:
    found = read([row(1, in_operation="embeddings"), row(2, in_parameters='{"tools": [{}]}')])
    assert [(a.prediction_id, a.conversation) for a in found] == [("p2", None)]


def test_a_plain_completion_goes_without_the_chat_template() -> None:
    (found,) = read([row(1, in_operation="completions")])
    assert found.conversation is not None
    assert not found.conversation.chat


@pytest.mark.parametrize(
    "document",
    ["", "{", "{}", "[]", '"text"', "[1]", '[{"role": "user"}]',
     '[{"role": "tool", "content": "x"}]',
     '[{"role": "user", "content": [{"type": "image_url"}]}]'],
)  # fmt: skip
def test_what_holds_more_than_texts_or_is_broken_is_none(document: str) -> None:
    assert parse_conversation(document) is None


def test_parts_of_text_are_put_together() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    found = parse_conversation(json.dumps([{"role": "user", "content": parts}]))
    assert found == Conversation((Message("user", "ab"),))
