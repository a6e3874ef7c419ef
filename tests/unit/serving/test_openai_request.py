"""Requests to OpenAI's API, before they reach an engine."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from driftloop_contracts.errors import NotFound, Rejected
from driftloop_serving.openai.openai_request import (
    STICKY,
    Asked,
    conversation,
    parameters,
    read,
    routing_key,
)

CHAT = "/v1/chat/completions"


def asked(path: str = CHAT, **body: object) -> Asked:
    return read(path, json.dumps({"model": "m", **body}).encode())


def said(*texts: str) -> list[dict[str, str]]:
    roles = ("user", "assistant")
    return [{"role": roles[n % 2], "content": text} for n, text in enumerate(texts)]


def test_a_name_with_a_version_is_pinned() -> None:
    body = {"model": "m@3", "messages": said("hi")}
    found = read(CHAT, json.dumps(body).encode())
    assert (found.named, found.model, found.pinned) == ("m@3", "m", "3")
    assert asked(messages=said("hi")).pinned is None


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"{bad", "not valid JSON"),
        (b"[]", "must be a JSON object"),
        (b"{}", "name the `model`"),
        (b'{"model": 3}', "name the `model`"),
        (b'{"model": "m"}', "at least one message"),
        (b'{"model": "m", "messages": []}', "at least one message"),
        (b'{"model": "m", "messages": ["hi"]}', r"messages\[0\] must be an object"),
        (b'{"model": "m", "messages": [{"role": "wizard"}]}', r"messages\[0\].role is 'wizard'"),
    ],
)
def test_a_body_that_no_model_could_answer_is_refused_with_the_reason(
    body: bytes, why: str
) -> None:
    with pytest.raises(Rejected, match=why):
        read(CHAT, body)


def test_a_version_that_is_left_out_behind_the_at_is_not_found() -> None:
    with pytest.raises(NotFound, match="name@version"):
        read(CHAT, b'{"model": "m@", "messages": [{"role": "user"}]}')


@pytest.mark.parametrize(
    ("path", "field"), [("/v1/completions", "prompt"), ("/v1/responses", "input")]
)
def test_a_missing_prompt_is_named(path: str, field: str) -> None:
    with pytest.raises(Rejected, match=f"`{field}` is missing"):
        asked(path)


@given(st.lists(st.text(), min_size=1), st.lists(st.text(), max_size=4))
def test_all_turns_of_a_conversation_have_one_routing_key(
    first: list[str], more: list[str]
) -> None:
    beginning = asked(messages=said(first[0]))
    later = asked(messages=said(first[0], *more), temperature=0.5)
    assert routing_key(beginning, None) == routing_key(later, None)


def test_other_conversations_have_other_routing_keys() -> None:
    keys = {routing_key(asked(messages=said(f"hello {n}")), None) for n in range(100)}
    assert len(keys) == 100


@pytest.mark.parametrize("field", STICKY)
def test_what_the_body_says_of_the_user_or_conversation_is_the_routing_key(field: str) -> None:
    one, two = asked(messages=said("a"), **{field: "u"}), asked(messages=said("b"), **{field: "u"})
    assert routing_key(one, None) == routing_key(two, None) == b"u"
    assert routing_key(one, "given") == b"given"


def test_a_row_holds_the_conversation_and_what_else_was_asked_for() -> None:
    call = asked(messages=said("hi"), temperature=0.2, stream=True, tools=[{"type": "function"}])
    assert json.loads(conversation(call)) == said("hi")
    assert json.loads(parameters(call)) == {"temperature": 0.2, "tools": [{"type": "function"}]}


def test_a_plain_prompt_is_one_user_message() -> None:
    call = asked("/v1/completions", prompt=["one", "two"])
    assert json.loads(conversation(call, 1)) == said("two")
    tokens = asked("/v1/completions", prompt=[1, 2, 3])
    assert json.loads(conversation(tokens)) == [{"role": "user", "content": [1, 2, 3]}]


def test_instructions_are_a_system_message() -> None:
    call = asked("/v1/responses", input="hi", instructions="be brief")
    assert json.loads(conversation(call)) == [
        {"role": "system", "content": "be brief"},
        *said("hi"),
    ]
