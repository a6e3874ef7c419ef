"""A real vLLM engine in its replica: answers, capture, adapters, likelihoods."""

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import httpx
import openai
import psutil
import pytest
from engine_world import HI, World
from tiny_llama import CONTEXT, tiny_adapter, tiny_llama

from driftloop_contracts.likelihood import PATH, LikelihoodCall
from driftloop_contracts.model import TrafficSplit
from driftloop_monitoring.text.engine_port import nats_per_token
from driftloop_serving.capture.spool_reader import SpoolReader
from driftloop_vllm.adapters import content_name

pytestmark = [
    pytest.mark.language,
    pytest.mark.timeout(900),
    pytest.mark.asyncio(loop_scope="module"),
]


async def test_an_answer_is_in_the_spool_when_it_is_here(
    world: World, client: openai.AsyncOpenAI
) -> None:
    answer = await client.chat.completions.create(
        model="tiny", messages=HI, max_tokens=6, logprobs=True, n=2
    )
    rows = world.kept(answer.id)
    assert [row["text"] for row in rows] == [c.message.content for c in answer.choices]
    assert answer.usage is not None
    assert {(r["prompt_tokens"], r["completion_tokens"], r["finish_reason"]) for r in rows} == {
        (answer.usage.prompt_tokens, 6, "length")
    }
    assert all(row["first_token_s"] > 0 and row["token_s"] > 0 for row in rows)


async def test_a_stream_is_in_the_spool_when_it_ends(
    world: World, client: openai.AsyncOpenAI
) -> None:
    stream = await client.chat.completions.create(
        model="tiny@1", messages=HI, max_tokens=6, stream=True
    )
    chunks = [chunk async for chunk in stream]
    assert {chunk.model for chunk in chunks} == {"tiny@1"}
    text = "".join(c.choices[0].delta.content or "" for c in chunks)
    (row,) = world.kept(chunks[0].id)
    assert (row["text"], row["completion_tokens"], row["arm"]) == (text, 6, "pinned")


async def test_every_call_is_captured_under_its_own_id(
    world: World, client: openai.AsyncOpenAI
) -> None:
    two = await client.completions.create(model="tiny", prompt=["one", "two"], max_tokens=3)
    prompts = [json.loads(row["messages"])[0]["content"] for row in world.kept(two.id)]
    assert prompts == ["one", "two"]
    whole = await client.responses.create(model="tiny", input="hello", max_output_tokens=3)
    assert world.kept(whole.id)[0]["text"] == whole.output_text
    events = [
        event
        async for event in await client.responses.create(
            model="tiny", input="hello", max_output_tokens=3, stream=True
        )
    ]
    completed: Any = events[-1]
    assert completed.type == "response.completed"
    assert len(world.kept(completed.response.id)) == 1


async def test_structured_outputs_are_vllms(client: openai.AsyncOpenAI) -> None:
    chosen = await client.chat.completions.create(
        model="tiny", messages=HI, extra_body={"structured_outputs": {"choice": ["yes", "no"]}}
    )
    assert chosen.choices[0].message.content in ("yes", "no")


async def test_a_client_that_leaves_frees_the_engine_and_is_captured_once(
    world: World, client: openai.AsyncOpenAI
) -> None:
    stream = await client.chat.completions.create(
        model="tiny",
        messages=HI,
        stream=True,
        max_tokens=CONTEXT - 64,
        extra_body={"ignore_eos": True},
    )
    chunks = aiter(stream)
    prediction_id = (await anext(chunks)).id
    await anext(chunks)
    await stream.close()
    engine: Any = world.replica._engine
    while engine.in_flight or not world.kept(prediction_id):
        await asyncio.sleep(0.05)
    (row,) = world.kept(prediction_id)
    assert row["finish_reason"] == "abort"
    assert 0 < row["completion_tokens"] < CONTEXT - 64


async def test_an_engine_that_has_answered_leaves_the_cores_alone(
    client: openai.AsyncOpenAI,
) -> None:
    def cpu_s() -> float:
        times = [p.cpu_times() for p in psutil.Process().children(recursive=True) if engines(p)]
        assert len(times) >= 2
        return sum(t.user + t.system for t in times)

    def engines(process: psutil.Process) -> bool:
        return process.name().startswith("VLLM::")

    await client.chat.completions.create(model="tiny", messages=HI, max_tokens=3)
    before = cpu_s()
    end = time.monotonic() + 0.8
    while time.monotonic() < end:  # vLLM itself spends all of it on each of two cores
        await asyncio.sleep(0.05)
        assert cpu_s() - before < 0.4


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ({"messages": [{"role": "user", "content": "hello " * CONTEXT}]}, "context length"),
        ({"temperature": -1}, "temperature"),
        ({"max_tokens": 10**6}, "max_tokens"),
        ({"top_p": 7}, "top_p"),
        ({"tool_choice": "required"}, "tool"),
    ],
)
async def test_what_vllm_refuses_is_a_400(
    client: openai.AsyncOpenAI, body: dict[str, Any], why: str
) -> None:
    with pytest.raises(openai.BadRequestError, match=why):
        await client.chat.completions.create(**{"model": "tiny", "messages": HI, **body})


async def test_an_adapter_answers_under_its_content_and_a_wrong_one_is_refused(
    world: World, client: openai.AsyncOpenAI
) -> None:
    state_dir = world.settings.state_dir
    base = Path(world.deployment.versions[0].path)
    good = tiny_adapter(state_dir / "good", base, seed=1)
    other = tiny_adapter(state_dir / "other", tiny_llama(state_dir / "base-2", seed=2))
    wide = tiny_adapter(state_dir / "wide", base, rank=64)
    (served,) = world.deployment.versions
    await world.deploy(
        served,
        world.adapter(2, good),
        world.adapter(3, other),
        world.adapter(4, wide),
        world.adapter(5, Path("/etc")),
        split=TrafficSplit(1, 2, 0.5, "salt"),
    )
    assert world.loaded.versions == (1, 2)
    assert "different base" in world.loaded.failed[3]
    assert "rank 64 is over" in world.loaded.failed[4]
    assert "outside the folders" in world.loaded.failed[5]
    engine: Any = world.replica._engine
    assert engine.adapters == {content_name("tiny", good)}

    async def greedy(model: str) -> tuple[str, str]:
        raw = await client.chat.completions.with_raw_response.create(
            model=model, messages=HI, max_tokens=12, temperature=0
        )
        return raw.headers["x-model-version"], raw.parse().choices[0].message.content or ""

    assert (await greedy("tiny@1"))[1] != (await greedy("tiny@2"))[1]
    versions = set()
    for n in range(16):
        answer = await client.chat.completions.with_raw_response.create(
            model="tiny", messages=[{"role": "user", "content": f"hello {n}"}], max_tokens=1
        )
        row = world.kept(answer.parse().id)[0]
        assert str(row["version"]) == answer.headers["x-model-version"]
        versions.add((row["version"], row["arm"]))
    assert versions == {(1, "stable"), (2, "canary")}
    await world.deploy(served, split=TrafficSplit(1))
    assert engine.adapters == set()
    assert world.loaded.versions == (1,)


async def test_perplexity_is_that_of_the_served_version_and_is_for_the_monitor_only(
    world: World, client: openai.AsyncOpenAI
) -> None:
    base = Path(world.deployment.versions[0].path)
    adapter = tiny_adapter(world.settings.state_dir / "told", base, seed=3)
    (served,) = world.deployment.versions
    await world.deploy(served, world.adapter(2, adapter), split=TrafficSplit(1))
    messages = ({"role": "user", "content": "hello"},)
    long = ({"role": "user", "content": "hello " * CONTEXT},)
    text = "The path of a file, as text."

    async def told(*calls: LikelihoodCall) -> list[float]:
        (addresses,) = {known[:1] for known in world.table.models["tiny"].addresses.values()}
        found, why = await asyncio.to_thread(nats_per_token, addresses, calls, 120.0)
        assert not why
        return found

    (folder,) = world.settings.spool_dir.glob("engine-*")
    before = len(SpoolReader(folder).read(64 << 20).predictions)
    of_base, of_adapter = await told(
        LikelihoodCall("tiny", 1, messages, text), LikelihoodCall("tiny", 2, messages, text)
    )
    # The engine computes in bfloat16; the two versions are .06 apart.
    assert of_base == pytest.approx(await asyncio.to_thread(_nats, base, None, text), abs=0.02)
    assert of_adapter == pytest.approx(
        await asyncio.to_thread(_nats, base, adapter, text), abs=0.02
    )
    # A conversation over the context counts from where there is room; what cannot be read is left
    # out.
    (of_long,) = await told(
        LikelihoodCall("tiny", 1, long, text), LikelihoodCall("tiny", 1, ({},), text)
    )
    assert of_long == pytest.approx(of_base, abs=0.5)
    assert len(SpoolReader(folder).read(64 << 20).predictions) == before
    call = LikelihoodCall("tiny", 1, messages, text)
    async with httpx.AsyncClient() as outsider:
        url = str(client.base_url.copy_with(path=PATH))
        answer = await outsider.post(url, content=call.body(), headers=call.headers())
    assert answer.status_code == 404
    await world.deploy(served, split=TrafficSplit(1))


def _nats(base: Path, adapter: Path | None, text: str) -> float:
    """The same by transformers."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(base)
    model: Any = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    if adapter is not None:
        model = PeftModel.from_pretrained(model, adapter)
    asked = tokenizer.apply_chat_template(HI, tokenize=False, add_generation_prompt=True)
    prompt = tokenizer(asked, add_special_tokens=False)["input_ids"]
    answer = tokenizer(text, add_special_tokens=False)["input_ids"]
    with torch.no_grad():
        logits = model(torch.tensor([prompt + answer])).logits[0].log_softmax(-1)
    rows = range(len(prompt) - 1, len(prompt) + len(answer) - 1)
    return -float(sum(logits[at, token] for at, token in zip(rows, answer, strict=True))) / len(
        answer
    )
