"""A candidate in the shadow of a real vLLM engine: it answers beside the champion, unseen, and
gives way to clients."""

import asyncio
import json
from typing import Any

import numpy as np
import openai
import pyarrow as pa
import pytest
from engine_world import HI, World
from tiny_llama import CONTEXT, tiny_adapter

from driftloop_contracts.language import SIGNATURE
from driftloop_contracts.model import TrafficSplit
from driftloop_evaluation.scorer import Scorer
from driftloop_rollout.answer_losses import AnswerLosses
from driftloop_rollout.engine_shadow import EngineLimits, EngineShadow, Whereabouts
from driftloop_rollout.shadow_process import Answered
from driftloop_serving.capture.spool_reader import SpoolReader

pytestmark = [
    pytest.mark.language,
    pytest.mark.timeout(900),
    pytest.mark.asyncio(loop_scope="module"),
]


def length(_: list[dict[str, Any]], answer: str) -> float:
    return min(1.0, len(answer) / 1_000)


def asked(row: dict[str, Any], operation: str, **parameters: Any) -> dict[str, Any]:
    """A conversation as the lake has it."""
    given = {f"in_{t.name}": row[t.name] for t in SIGNATURE.inputs}
    given |= {f"out_{t.name}": row[t.name] for t in SIGNATURE.outputs}
    told = {"in_operation": operation, "in_parameters": json.dumps(parameters)}
    return {**given, **told, "prediction_id": f"p-{operation}", "row": 0, "error": None}


async def answers(shadow: EngineShadow, rows: pa.Table) -> Answered:
    shadow.ask(rows)
    while (found := shadow.answered()) is None:
        await asyncio.sleep(0.02)
    return found


async def test_an_adapter_answers_unseen_and_gives_way_to_clients(
    world: World, client: openai.AsyncOpenAI
) -> None:
    (base,) = world.deployment.versions
    adapter = tiny_adapter(world.settings.state_dir / "shadow", base.path, seed=5)
    await world.deploy(base, world.adapter(2, adapter), split=TrafficSplit(1))
    addresses = world.loaded.addresses[2]
    answer = await client.chat.completions.create(
        model="tiny", messages=HI, max_tokens=8, temperature=0
    )
    (row,) = world.kept(answer.id)
    (folder,) = world.settings.spool_dir.glob("engine-*")
    before = len(SpoolReader(folder).read(64 << 20).predictions)
    limits = EngineLimits(max_tokens=6, patience_s=0.0)
    shadow = EngineShadow(
        "tiny", 2, lambda: Whereabouts(addresses), AnswerLosses(Scorer(length)), limits
    )
    operations = ("chat.completions", "completions", "responses")
    table = pa.Table.from_pylist([asked(row, operation, temperature=0) for operation in operations])
    found = await answers(shadow, table)
    assert found.answers["failed"].to_pylist() == [False] * 3
    assert found.answers["out_completion_tokens"].to_pylist() == [6] * 3
    candidate, champion = found.losses["format"]
    assert not np.isnan([candidate, champion]).any()
    again = await client.chat.completions.create(
        model="tiny@2", messages=HI, max_tokens=6, temperature=0
    )
    assert found.answers["out_text"][0].as_py() == again.choices[0].message.content
    assert len(SpoolReader(folder).read(64 << 20).predictions) == before + 1  # that last one
    engine: Any = world.replica._engine

    # A client comes while the candidate answers: the engine is free of it, and the client served.
    long = EngineLimits(max_tokens=CONTEXT - 64, patience_s=0.0)
    slow = EngineShadow("tiny", 2, lambda: Whereabouts(addresses), AnswerLosses(), long)
    endless = [asked(row, "chat.completions", ignore_eos=True)]
    answering = asyncio.ensure_future(answers(slow, pa.Table.from_pylist(endless)))
    while not engine.in_flight:
        await asyncio.sleep(0.01)
    served = await client.chat.completions.create(
        model="tiny", messages=HI, max_tokens=8, temperature=0
    )
    assert served.choices[0].message.content == answer.choices[0].message.content
    found = await answering
    assert found.kept is not None
    assert not found.kept.any()
    assert engine.in_flight == 0
