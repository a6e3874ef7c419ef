"""A real engine that embeds: vLLM makes an embedding model of any other with `runner: pooling`."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import openai
import pytest
from engine_world import HI, World
from tiny_llama import tiny_adapter, tiny_llama

from driftloop_contracts.model import TrafficSplit

pytestmark = [
    pytest.mark.language,
    pytest.mark.timeout(900),
    pytest.mark.asyncio(loop_scope="module"),
]

OPTIONS = {"engine": {"runner": "pooling"}}
HIDDEN = 64


async def test_equal_texts_have_equal_vectors_in_their_order(client: openai.AsyncOpenAI) -> None:
    texts = ["one", "another text", "one"]
    answer = await client.embeddings.create(model="tiny", input=texts, encoding_format="float")
    assert [item.index for item in answer.data] == [0, 1, 2]
    one, other, again = np.array([item.embedding for item in answer.data])
    assert one.shape == other.shape == (HIDDEN,)
    assert np.linalg.norm(one) == pytest.approx(1, abs=1e-3)
    np.testing.assert_allclose(one, again, atol=1e-2)  # the engine computes in bfloat16
    assert np.abs(one - other).max() > 0.05
    assert answer.usage.prompt_tokens > 3


async def test_base64_which_the_sdk_asks_for_is_the_same(client: openai.AsyncOpenAI) -> None:
    plain = await client.embeddings.create(model="tiny", input="hello", encoding_format="float")
    packed = await client.embeddings.create(model="tiny", input="hello")
    np.testing.assert_allclose(packed.data[0].embedding, plain.data[0].embedding, atol=1e-2)


async def test_a_call_is_one_row_with_its_texts_and_without_the_vectors(
    world: World, client: openai.AsyncOpenAI
) -> None:
    raw = await client.embeddings.with_raw_response.create(model="tiny@1", input=["one", "two"])
    answer, told = raw.parse(), json.loads(raw.text)
    assert (told["id"], told["model"]) == (raw.headers["x-prediction-id"], "tiny@1")
    assert raw.headers["x-model-version"] == "1"
    (row,) = world.kept(told["id"])
    assert json.loads(row["messages"]) == [{"role": "user", "content": ["one", "two"]}]
    assert json.loads(row["parameters"]) == {"encoding_format": "base64"}
    assert (row["operation"], row["text"], row["arm"]) == ("embeddings", "", "pinned")
    assert (row["prompt_tokens"], row["completion_tokens"]) == (answer.usage.prompt_tokens, 0)


async def test_what_it_does_not_answer_is_refused_with_what_it_does(
    client: openai.AsyncOpenAI,
) -> None:
    with pytest.raises(
        openai.BadRequestError, match=r"does not answer .*; it answers .*/v1/embeddings"
    ):
        await client.chat.completions.create(model="tiny", messages=HI)
    with pytest.raises(openai.NotFoundError, match="unknown version"):
        await client.embeddings.create(model="tiny@7", input="hello")
    with pytest.raises(openai.BadRequestError, match="encoding_format"):
        await client.embeddings.create(
            model="tiny", input="hello", extra_body={"encoding_format": "bytes"}
        )
    with pytest.raises(openai.BadRequestError, match="input"):
        await client.embeddings.create(model="tiny", input=[])
    with pytest.raises(openai.BadRequestError, match=r"context length|max_model_len|maximum"):
        await client.embeddings.create(model="tiny", input="hello " * 4000)


async def test_an_adapter_embeds_otherwise_and_has_its_share_of_a_canary(
    world: World, client: openai.AsyncOpenAI
) -> None:
    (served,) = world.deployment.versions
    adapter = tiny_adapter(world.settings.state_dir / "adapter", Path(served.path))
    await world.deploy(served, world.adapter(2, adapter), split=TrafficSplit(1, 2, 0.5, "salt"))
    assert world.loaded.versions == (1, 2), world.loaded
    base, adapted = [
        np.array(
            (await client.embeddings.create(model=f"tiny@{n}", input="hello")).data[0].embedding
        )
        for n in (1, 2)
    ]
    assert np.abs(base - adapted).max() > 0.05
    seen = set()
    for n in range(16):
        raw = await client.embeddings.with_raw_response.create(model="tiny", input=f"hello {n}")
        (row,) = world.kept(raw.headers["x-prediction-id"])
        assert str(row["version"]) == raw.headers["x-model-version"]
        seen.add((row["version"], row["arm"]))
    assert seen == {(1, "stable"), (2, "canary")}
    await world.deploy(served, split=TrafficSplit(1))


async def test_a_canary_with_weights_of_its_own_is_another_engines(
    world: World, client: openai.AsyncOpenAI
) -> None:
    """This engine answers for its own version, and says of another that it is not there."""
    (served,) = world.deployment.versions
    other = tiny_llama(world.settings.state_dir / "base-2", seed=2)
    await world.deploy(served, replace(served, version=2, path=str(other)))
    assert world.loaded.versions == (1,)
    await client.embeddings.create(model="tiny@1", input="hello")
    with pytest.raises(openai.APIStatusError) as away:
        await client.embeddings.create(model="tiny@2", input="hello")
    assert away.value.status_code == 503
    await world.deploy(served)
