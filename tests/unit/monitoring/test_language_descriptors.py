import json
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from driftloop_monitoring.text.descriptors import described, last_prompt, repetition
from driftloop_monitoring.text.language_detection import language_of


def answers(*rows: tuple[str | None, str | None, str]) -> pa.Table:
    """(messages, answer, finish reason)."""
    messages, texts, reasons = zip(*rows, strict=True)
    count = len(rows)
    return pa.table(
        {
            "in_messages": pa.array(messages, pa.string()),
            "in_parameters": pa.array(['{"max_tokens": 50}'] * count, pa.string()),
            "in_operation": ["chat.completions"] * count,
            "out_text": pa.array(texts, pa.string()),
            "out_tool_calls": [""] * count,
            "out_finish_reason": list(reasons),
            "out_completion_tokens": pa.array([7] * count, pa.int32()),
        }
    )


def asked(*contents: str) -> str:
    return json.dumps([{"role": "user", "content": c} for c in contents])


def one(messages: str | None, answer: str | None, reason: str = "stop") -> dict[str, Any]:
    found: dict[str, Any] = described(answers((messages, answer, reason))).to_pylist()[0]
    return found


def test_texts_are_replaced_by_what_can_be_said_of_them() -> None:
    row = one(asked("Hi", "What is the capital of France?"), "It is Paris, and it is on the Seine.")
    assert not {"in_messages", "in_parameters", "out_text", "out_tool_calls"} & set(row)
    assert (row["in_turns"], row["in_prompt_words"], row["in_question"]) == (2.0, 6.0, True)
    assert (row["in_max_tokens"], row["in_temperature"]) == (50.0, None)
    assert (row["out_answer_words"], row["out_answer_language"]) == (9.0, "en")
    assert not any(row[f"out_{flag}"] for flag in ("empty", "looping", "refusal", "truncated"))
    assert row["out_completion_tokens"] == 7


@pytest.mark.parametrize(
    ("answer", "reason", "flag"),
    [
        ("", "stop", "empty"),
        ("again and again " * 10, "stop", "looping"),
        ("I'm sorry, but I can't help with that.", "stop", "refusal"),
        ("As an AI language model, I have no opinions.", "stop", "refusal"),
        ("Es tut mir leid, das geht nicht.", "stop", "refusal"),
        ("It goes on and", "length", "truncated"),
    ],
)
def test_useless_answers_are_flagged(answer: str, reason: str, flag: str) -> None:
    row = one(asked("Why?"), answer, reason)
    flags = ("empty", "looping", "refusal", "truncated")
    assert [f for f in flags if row[f"out_{f}"]] == [flag]


def test_an_answer_that_the_client_did_not_wait_for_says_nothing() -> None:
    assert one(asked("Why?"), "Because", "abort")["out_answer_words"] is None


def test_an_error_describes_its_prompt_only() -> None:
    row = one(asked("Why not?"), None, "error")
    assert (row["in_prompt_words"], row["out_empty"]) == (2.0, None)


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("Where is the station, and what is it for?", "en"),
        ("Wo ist der Bahnhof, und wie komme ich zu dem?", "de"),
        ("Où est la gare, et que faire pour y aller avec vous ?", "fr"),
        ("¿Dónde está la estación y cómo se va a ella por las calles?", "es"),
        ("駅はどこですか", "ja"), ("车站在哪里", "zh"), ("역이 어디에 있나요", "ko"),
        ("Где находится вокзал", "ru"), ("أين المحطة", "ar"), ("xyzzy 42", "?"), ("", "?"),
    ],
)  # fmt: skip
def test_languages_are_told_apart(text: str, language: str) -> None:
    assert language_of(text) == language


def test_repetition_is_the_share_of_sequences_seen_before() -> None:
    assert repetition(["a", "b", "c", "d", "e"]) == 0.0
    assert repetition(["a"] * 12) == pytest.approx(0.9)
    assert repetition(["a", "b"]) == 0.0


def test_parts_of_a_message_are_read_as_its_text() -> None:
    parts = [
        {"type": "text", "text": "What is"},
        {"type": "image_url"},
        {"type": "text", "text": "it?"},
    ]
    assert last_prompt(json.dumps([{"role": "user", "content": parts}])) == "What is it?"


@given(
    st.one_of(
        st.none(),
        st.text(),
        st.builds(
            json.dumps,
            st.recursive(
                st.none() | st.booleans() | st.integers() | st.text(),
                lambda x: (
                    st.lists(x) | st.dictionaries(st.sampled_from(["role", "content", "text"]), x)
                ),
            ),
        ),
    ),
    st.one_of(st.none(), st.text()),
)
def test_nothing_in_a_conversation_stops_the_watch(
    messages: str | None, answer: str | None
) -> None:
    assert described(answers((messages, answer, "stop"))).num_rows == 1
