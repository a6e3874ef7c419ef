"""A language model behind the stack, asked with OpenAI's own SDK."""

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import psutil
import pytest
from command_line import FREE_PORTS, Driftloop, eventually
from tiny_llama import CONTEXT, tiny_adapter, tiny_llama

pytestmark = pytest.mark.language

ADMIN = (
    "/v1/load_lora_adapter", "/v1/unload_lora_adapter", "/sleep", "/wake_up", "/collective_rpc",
    "/reset_prefix_cache", "/pause", "/scale_elastic_ep", "/invocations",
)  # fmt: skip
LOAD_S = 900.0
"""On a machine that is busy with others' work; 20 to 40 s on two idle cores."""
HI: Any = [{"role": "user", "content": "hello"}]
WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {
            "type": "object",
            "properties": {"city": {"enum": ["Oslo"]}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_llama(tmp_path_factory.mktemp("model") / "base")


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, base: Path) -> Iterator[Driftloop]:
    driftloop = Driftloop(tmp_path_factory.mktemp("stack"))
    settings = [*FREE_PORTS, "lake.flush_seconds=0.5", "rollout.steps=[0.5, 1.0]"]
    driftloop("up", "--detach", *(word for each in settings for word in ("--set", each)))
    driftloop("deploy", str(base), "--name", "tiny", timeout=LOAD_S)
    yield driftloop
    driftloop("down")


@pytest.fixture(scope="module")
def url(stack: Driftloop) -> str:
    return str(stack("status")["endpoints"]["inference"])


@pytest.fixture(scope="module")
def client(url: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, timeout=120)


def rows(stack: Driftloop, prediction_id: str) -> list[dict[str, Any]]:
    select = f"SELECT * FROM predictions WHERE prediction_id = '{prediction_id}'"
    found: list[dict[str, Any]] = eventually(
        lambda: stack("query", "tiny", select, check=False),
        lambda rows: isinstance(rows, list) and rows,
    )
    return found


def test_an_answer_carries_its_prediction_id_version_and_the_name_that_was_asked(
    stack: Driftloop, client: openai.OpenAI
) -> None:
    raw = client.chat.completions.with_raw_response.create(
        model="tiny", messages=HI, max_tokens=6, logprobs=True, user="somebody"
    )
    answer = raw.parse()
    # Another test may have begun a canary.
    arm = {"1": "stable", "2": "canary"}[raw.headers["x-model-version"]]
    assert raw.headers["x-prediction-id"] == answer.id
    assert answer.model == "tiny"
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 6
    assert len(answer.choices[0].logprobs.content) == 6
    (row,) = rows(stack, answer.id)
    assert row["text"] == answer.choices[0].message.content
    assert json.loads(row["messages"]) == HI
    assert json.loads(row["parameters"])["max_tokens"] == 6
    assert (row["finish_reason"], row["arm"], row["operation"]) == (
        "length",
        arm,
        "chat.completions",
    )
    assert (row["prompt_tokens"], row["completion_tokens"]) == (answer.usage.prompt_tokens, 6)
    assert 0 < row["token_s"] < row["first_token_s"] + 60


def test_a_streamed_answer_is_captured_once_and_complete(
    stack: Driftloop, client: openai.OpenAI
) -> None:
    chunks = list(
        client.chat.completions.create(
            model="tiny",
            messages=HI,
            max_tokens=6,
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    (prediction_id,) = {chunk.id for chunk in chunks}
    assert {chunk.model for chunk in chunks} == {"tiny"}
    assert chunks[-1].usage is not None
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    (row,) = rows(stack, prediction_id)
    assert (row["text"], row["completion_tokens"]) == (text, 6)


def test_completions_responses_models_and_tokens_are_answered(
    stack: Driftloop, client: openai.OpenAI, url: str
) -> None:
    assert [model.id for model in client.models.list()] == ["tiny"]
    assert client.models.retrieve("tiny").id == "tiny"
    two = client.completions.create(model="tiny@1", prompt=["one", "two"], max_tokens=4)
    assert (two.model, len(two.choices)) == ("tiny@1", 2)
    kept = rows(stack, two.id)
    assert [json.loads(row["messages"])[0]["content"] for row in kept] == ["one", "two"]
    assert {row["arm"] for row in kept} == {"pinned"}
    response = client.responses.create(model="tiny", input="hello", max_output_tokens=4)
    assert rows(stack, response.id)[0]["text"] == response.output_text
    events = client.responses.create(model="tiny", input="hello", max_output_tokens=4, stream=True)
    assert [event.type for event in events][-1] == "response.completed"
    tokens = httpx.post(f"{url}/tokenize", json={"model": "tiny", "prompt": "hello"}).json()
    back = {"model": "tiny", "tokens": tokens["tokens"]}
    assert httpx.post(f"{url}/detokenize", json=back).json()["prompt"] == "hello"


def test_structured_outputs_are_vllms(client: openai.OpenAI) -> None:
    chosen = client.chat.completions.create(
        model="tiny", messages=HI, extra_body={"structured_outputs": {"choice": ["yes", "no"]}}
    )
    assert chosen.choices[0].message.content in ("yes", "no")


def test_tools_without_a_parser_are_refused_with_what_is_missing(client: openai.OpenAI) -> None:
    called: Any = {"type": "function", "function": {"name": "weather"}}
    with pytest.raises(openai.BadRequestError, match="tool-call-parser"):
        client.chat.completions.create(
            model="tiny", messages=HI, tools=[WEATHER], tool_choice=called
        )


@pytest.mark.parametrize(
    ("body", "status", "why"),
    [
        ({"model": "nobody"}, 404, "does not exist"),
        ({"model": "tiny@9"}, 404, "unknown version"),
        ({"messages": [{"role": "wizard", "content": ""}]}, 400, "wizard"),
        ({"messages": [{"role": "user", "content": "hello " * CONTEXT}]}, 400, "context length"),
        ({"temperature": -1}, 400, "temperature"),
        ({"max_tokens": 10**6}, 400, "max_tokens"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": 3}}},
            400, "",
        ),
    ],
)  # fmt: skip
def test_bad_input_gets_openais_error_form(
    url: str, body: dict[str, Any], status: int, why: str
) -> None:
    answer = httpx.post(
        f"{url}/v1/chat/completions", json={"model": "tiny", "messages": HI, **body}, timeout=60
    )
    assert answer.status_code == status, answer.text
    assert why in answer.json()["error"]["message"]
    assert set(answer.json()["error"]) >= {"message", "type", "param", "code"}


def test_what_no_model_answers_is_said(client: openai.OpenAI, url: str) -> None:
    broken = httpx.post(f"{url}/v1/chat/completions", content=b"{bad")
    assert broken.status_code == 400
    assert "not valid JSON" in broken.json()["error"]["message"]
    with pytest.raises(openai.BadRequestError, match="does not answer /v1/embeddings"):
        client.embeddings.create(model="tiny", input="hello")
    tensors = httpx.post(f"{url}/v2/models/tiny/infer", json={"inputs": []})
    assert (tensors.status_code, "language model" in tensors.json()["error"]) == (400, True)


@pytest.mark.parametrize("path", ADMIN)
def test_vllms_admin_calls_are_not_there(url: str, path: str) -> None:
    assert httpx.post(f"{url}{path}", json={}).status_code == 404


def test_a_client_that_leaves_frees_the_engine_and_is_captured_once(
    stack: Driftloop, client: openai.OpenAI, url: str
) -> None:
    stream = client.chat.completions.create(
        model="tiny",
        messages=HI,
        stream=True,
        max_tokens=CONTEXT - 64,
        extra_body={"ignore_eos": True},
    )
    prediction_id = next(iter(stream)).id
    next(iter(stream))
    stream.close()
    (row,) = rows(stack, prediction_id)
    assert row["finish_reason"] == "abort"
    assert 0 < row["completion_tokens"] < CONTEXT - 64
    eventually(
        lambda: httpx.get(f"{url}/metrics").text,
        lambda text: all(
            line.endswith(" 0.0")
            for line in text.splitlines()
            if line.startswith("driftloop_requests_in_flight{") and "engine-" in line
        ),
    )


def test_a_retry_of_the_sdk_is_the_same_prediction(stack: Driftloop, url: str) -> None:
    body = {"model": "tiny", "messages": [{"role": "user", "content": "again"}], "max_tokens": 4}
    first, second = (
        httpx.post(
            f"{url}/v1/chat/completions",
            json=body,
            timeout=60,
            headers={"x-stainless-retry-count": count},
        )
        for count in ("0", "1")
    )
    assert first.json() == second.json()
    assert len(rows(stack, first.json()["id"])) == 1
    chosen = {"x-prediction-id": "my-own-id", "x-routing-key": "k"}
    for _ in range(2):
        answer = httpx.post(f"{url}/v1/chat/completions", json=body, headers=chosen, timeout=60)
        assert answer.json()["id"] == "my-own-id"
    assert len(rows(stack, "my-own-id")) == 1


def test_tokens_are_counted(client: openai.OpenAI, url: str) -> None:
    client.chat.completions.create(model="tiny", messages=HI, max_tokens=3)
    names = (
        "driftloop_prompt_tokens_total",
        "driftloop_completion_tokens_total",
        "driftloop_first_token_seconds_count",
    )
    eventually(
        lambda: httpx.get(f"{url}/metrics").text,
        lambda text: all(f'{name}{{model="tiny"' in text for name in names),
    )


def test_adapters_canary_keeps_each_conversation_on_its_arm(
    stack: Driftloop, client: openai.OpenAI, base: Path, tmp_path: Path
) -> None:
    bad = tiny_adapter(tmp_path / "bad", base, rank=32)
    refused = stack("deploy", str(bad), "--name", "tiny", check=False)
    assert "rank 32 is over this engine's 16" in json.dumps(refused)
    adapter = tiny_adapter(tmp_path / "adapter", base)
    assert stack("deploy", str(adapter), "--name", "tiny", timeout=LOAD_S)["rollout"]

    def version(*turns: str) -> str:
        messages: Any = [{"role": "user", "content": turns[0]}]
        for turn in turns[1:]:
            messages += [{"role": "assistant", "content": "."}, {"role": "user", "content": turn}]
        return client.chat.completions.with_raw_response.create(
            model="tiny", messages=messages, max_tokens=1
        ).headers["x-model-version"]

    eventually(
        lambda: stack("status")["models"][0]["split"]["canary"],
        lambda weight: weight == 0.5,
        timeout_s=LOAD_S,
    )
    eventually(lambda: {version(f"hello {n}") for n in range(20)}, lambda seen: seen == {"1", "2"})
    first = [version(f"conversation {n}") for n in range(20)]
    second = [version(f"conversation {n}", "and then?") for n in range(20)]
    assert first == second
    pinned = client.chat.completions.with_raw_response.create(
        model="tiny@2", messages=HI, max_tokens=1
    )
    assert pinned.headers["x-model-version"] == "2"


def test_an_engine_that_dies_takes_nothing_else_with_it_and_is_started_again(
    stack: Driftloop, url: str
) -> None:
    pids = [role["pid"] for role in stack("status")["roles"] if role["name"].startswith("replica:")]
    (engine,) = (
        child.pid
        for pid in pids
        for child in psutil.Process(pid).children()
        if child.name().startswith("VLLM::Engine")
    )
    os.kill(engine, signal.SIGKILL)
    body = {"model": "tiny", "messages": HI, "max_tokens": 1}
    answer = eventually(
        lambda: httpx.post(f"{url}/v1/chat/completions", json=body, timeout=60),
        lambda answer: answer.status_code != 200,
    )
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, 503)
    assert int(answer.headers["retry-after"]) > 0
    assert httpx.get(f"{url}/v2/health/live").status_code == 200
    eventually(
        lambda: stack("status")["roles"],
        lambda roles: any(r["restarts"] for r in roles if r["name"].startswith("replica:")),
    )
    eventually(
        lambda: httpx.post(f"{url}/v1/chat/completions", json=body, timeout=60).status_code,
        lambda status: status == 200,
        timeout_s=LOAD_S,
    )
