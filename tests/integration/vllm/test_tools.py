"""Tool calls and structured outputs of a real engine. Its weights are random: grammars make it say
it."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import openai
import pytest
from engine_world import HI, World

from driftloop_vllm.options import EngineOptions

pytestmark = [
    pytest.mark.language,
    pytest.mark.timeout(900),
    pytest.mark.asyncio(loop_scope="module"),
]

OPTIONS = {"engine": {"tool_call_parser": "hermes"}}
OSLO = {"city": "Oslo"}


def function(name: str, **properties: Any) -> dict[str, Any]:
    schema = {
        "type": "object",
        "properties": properties,
        "required": [*properties],
        "additionalProperties": False,
    }
    return {"type": "function", "function": {"name": name, "parameters": schema, "strict": True}}


WEATHER: Any = function("weather", city={"enum": ["Oslo"]})
TIME: Any = function("time", zone={"enum": ["UTC"]})
CALLED: Any = {"type": "function", "function": {"name": "weather"}}
SCHEMA = function("", city={"enum": ["Oslo", "Bergen"]}, warm={"type": "boolean"})["function"][
    "parameters"
]


@cache
def dense(base: str) -> dict[str, Any]:
    """Keeps a model of random weights from filling its JSON with white space until it may say no
    more."""
    from transformers import AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(base)
    texts = {number: tokenizer.decode([number]) for number in range(len(tokenizer))}
    return {"logit_bias": {n: -100 for n, text in texts.items() if any(map(str.isspace, text))}}


@pytest.fixture
def asked(world: World) -> dict[str, Any]:
    base = str(Path(world.deployment.versions[0].path))
    return {"model": "tiny", "messages": HI, "max_tokens": 200, "extra_body": dense(base)}


async def test_a_function_that_is_named_is_called_with_what_its_schema_admits(
    world: World, client: openai.AsyncOpenAI, asked: dict[str, Any]
) -> None:
    answer = await client.chat.completions.create(**asked, tools=[WEATHER], tool_choice=CALLED)
    (choice,) = answer.choices
    (call,) = choice.message.tool_calls
    assert (call.function.name, json.loads(call.function.arguments)) == ("weather", OSLO)
    assert choice.finish_reason == "stop"  # as OpenAI says it of a function that the client named
    (row,) = world.kept(answer.id)
    assert json.loads(row["tool_calls"]) == [call.model_dump()]
    assert row["finish_reason"] == "tool_calls"
    assert json.loads(row["parameters"])["tools"] == [WEATHER]


async def test_a_streamed_call_is_the_same_and_is_captured_once(
    world: World, client: openai.AsyncOpenAI, asked: dict[str, Any]
) -> None:
    stream = await client.chat.completions.create(
        **asked, tools=[WEATHER], tool_choice=CALLED, stream=True
    )
    chunks = [chunk async for chunk in stream]
    parts = [part for c in chunks for part in c.choices[0].delta.tool_calls or ()]
    assert parts[0].function.name == "weather"
    arguments = "".join(part.function.arguments or "" for part in parts)
    assert json.loads(arguments) == OSLO
    assert chunks[-1].choices[0].finish_reason == "stop"
    (row,) = world.kept(chunks[0].id)
    assert json.loads(row["tool_calls"]) == [
        {
            "id": parts[0].id,
            "type": "function",
            "function": {"name": "weather", "arguments": arguments},
        }
    ]
    assert row["finish_reason"] == "tool_calls"


@pytest.mark.parametrize("parallel", [True, False])
async def test_required_calls_are_of_the_tools_and_one_at_a_time_where_asked_so(
    world: World, client: openai.AsyncOpenAI, asked: dict[str, Any], *, parallel: bool
) -> None:
    answer = await client.chat.completions.create(
        **asked, tools=[WEATHER, TIME], tool_choice="required", parallel_tool_calls=parallel, n=8
    )
    rows = world.kept(answer.id)
    assert len(rows) == 8
    ended = [
        (c, r) for c, r in zip(answer.choices, rows, strict=True) if c.finish_reason != "length"
    ]
    assert ended
    for choice, row in ended:
        calls = choice.message.tool_calls
        assert choice.finish_reason == row["finish_reason"] == "tool_calls"
        assert json.loads(row["tool_calls"]) == [call.model_dump() for call in calls]
        assert len(calls) == 1 or parallel
        for call in calls:
            wanted = {"weather": OSLO, "time": {"zone": "UTC"}}[call.function.name]
            assert json.loads(call.function.arguments) == wanted
    if parallel:
        assert max(len(choice.message.tool_calls) for choice, _ in ended) > 1


async def test_tools_that_are_not_called_leave_an_answer_of_text(
    world: World, client: openai.AsyncOpenAI
) -> None:
    told: Any = [
        *HI,
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [
                {"id": "a", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
            ],
        },
        {"role": "tool", "tool_call_id": "a", "content": "rain"},
    ]
    answer = await client.chat.completions.create(
        model="tiny", messages=told, tools=[WEATHER], max_tokens=4
    )
    assert not answer.choices[0].message.tool_calls
    (row,) = world.kept(answer.id)
    assert (row["tool_calls"], row["finish_reason"]) == ("", "length")
    assert json.loads(row["messages"]) == told


@pytest.mark.parametrize("streamed", [False, True])
async def test_responses_call_tools_too(
    world: World, client: openai.AsyncOpenAI, asked: dict[str, Any], *, streamed: bool
) -> None:
    tool: Any = {"type": "function", **WEATHER["function"]}
    answer: Any = await client.responses.create(
        model="tiny",
        input="hello",
        tools=[tool],
        stream=streamed,
        max_output_tokens=200,
        tool_choice={"type": "function", "name": "weather"},
        extra_body=asked["extra_body"],
    )
    if streamed:
        answer = [event async for event in answer][-1].response
    (call,) = [item for item in answer.output if item.type == "function_call"]
    assert (call.name, json.loads(call.arguments)) == ("weather", OSLO)
    (row,) = world.kept(answer.id)
    (kept,) = json.loads(row["tool_calls"])
    assert (kept["name"], json.loads(kept["arguments"])) == ("weather", OSLO)


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_schema_is_kept_to(
    world: World, client: openai.AsyncOpenAI, asked: dict[str, Any], *, streamed: bool
) -> None:
    wanted: Any = {"type": "json_schema", "json_schema": {"name": "weather", "schema": SCHEMA}}
    answer: Any = await client.chat.completions.create(
        **asked, response_format=wanted, stream=streamed
    )
    if streamed:
        chunks = [chunk async for chunk in answer]
        name, text = chunks[0].id, "".join(c.choices[0].delta.content or "" for c in chunks)
    else:
        name, text = answer.id, answer.choices[0].message.content
    jsonschema.validate(json.loads(text), SCHEMA)
    (row,) = world.kept(name)
    assert (row["text"], row["tool_calls"]) == (text, "")


@pytest.mark.parametrize("option", ["tool_call_parser", "reasoning_parser"])
async def test_a_parser_that_is_not_there_is_named_before_weights_are_loaded(
    tmp_path: Path, option: str
) -> None:
    from driftloop_vllm.engine import Engine

    with pytest.raises(KeyError, match=r"invalid .* parser: nope \(chose from"):
        await Engine.start("tiny", tmp_path, EngineOptions(**{option: "nope"}))


async def test_a_schema_that_is_none_is_refused(
    client: openai.AsyncOpenAI, asked: dict[str, Any]
) -> None:
    broken: Any = function("weather")
    broken["function"]["parameters"] = {"type": "no such type"}
    with pytest.raises(openai.BadRequestError):
        await client.chat.completions.create(**asked, tools=[broken], tool_choice=CALLED)
