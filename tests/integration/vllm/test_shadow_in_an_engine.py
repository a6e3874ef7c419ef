"""A candidate in the shadow of a real vLLM engine: it answers beside the champion, unseen, and
gives way to clients."""

import asyncio
import json
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import cycle, islice
from typing import Any

import numpy as np
import openai
import pyarrow as pa
import pytest
from engine_world import HI, World
from rollout_world import START, MemoryLake
from tiny_llama import CONTEXT, tiny_adapter

from driftloop_contracts.language import SIGNATURE
from driftloop_contracts.model import Deployment, TrafficSplit
from driftloop_contracts.objective import Objective
from driftloop_evaluation.scorer import Scorer
from driftloop_rollout.answer_losses import AnswerLosses
from driftloop_rollout.controller import Controller
from driftloop_rollout.engine_shadow import EngineLimits, EngineShadow, Whereabouts
from driftloop_rollout.machine import Rollout, State
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


def answered(_: list[dict[str, Any]], answer: str) -> float:
    return float(bool(answer.strip()))


def live(kept: list[dict[str, Any]], now: datetime, seconds: int) -> pa.Table:
    """The champion's answers of some seconds, 40 a second."""
    rows = []
    for n, row in enumerate(islice(cycle(kept), 40 * seconds)):
        at = now + n * timedelta(milliseconds=25)
        more = {"prediction_id": f"{at.timestamp()}", "predicted_at": at, "version": 1}
        told = {"arm": "stable", "latency_s": 0.1, "label": None, "label_number": None}
        said = asked(row, "chat.completions", temperature=0, max_tokens=4)
        rows.append({**said, **more, **told})
    table = pa.Table.from_pylist(rows)
    types = {
        "predicted_at": pa.timestamp("us", "UTC"), "version": pa.int32(), "row": pa.int32(),
        "error": pa.string(), "label": pa.string(), "label_number": pa.float64(),
    }  # fmt: skip
    for name, type_ in types.items():
        place = table.schema.get_field_index(name)
        table = table.set_column(place, name, table[name].cast(type_))
    return table


async def test_a_rollout_goes_through_the_shadow_of_its_engine(
    world: World, client: openai.AsyncOpenAI
) -> None:
    """By its objective, the scorer: proven by pairs of real answers before a user meets it."""
    before, base = world.deployment, world.deployment.version(1)
    assert base is not None
    named = {"scorer": f"{__name__}:{answered.__name__}"}
    by_scorer = Objective(metric="scorer", margin=0.2)
    spec = replace(before.model, options=named, objective=by_scorer)
    world.deployment = replace(before, model=spec)
    kept = []
    for n in range(8):
        said: Any = [{"role": "user", "content": f"hello {n}"}]
        answer = await client.chat.completions.create(
            model="tiny", messages=said, max_tokens=4, temperature=0
        )
        kept += world.kept(answer.id)
    store, lake = world.store, MemoryLake()
    folder = tiny_adapter(world.settings.state_dir / "rollout", base.path, seed=7)
    store.put_deployment(Deployment(spec, (base,), TrafficSplit(1)))
    now, lake.tables = START + timedelta(seconds=20), [live(kept, START, 20)]
    store.request_rollout("r1", world.adapter(3, folder), "tiny", now, "asked")
    patient = world.settings.rollout.model_copy(update={"shadow_s": 86_400.0})
    settings = world.settings.model_copy(update={"rollout": patient})
    controller = Controller(settings, store, lambda: lake)
    rollout = Rollout.from_record(store.rollout("r1"))
    while rollout.state in (State.PENDING, State.SHADOW):
        wanted = store.require_deployment("tiny")
        assert wanted.split == TrafficSplit(1)  # nobody meets the candidate
        if wanted.versions != world.deployment.versions:
            await world.deploy(*wanted.versions, split=wanted.split)
        store.put_loaded_versions("tiny", replace(world.loaded, revision=wanted.revision))
        lake.now = now
        controller.tick(now)
        await asyncio.sleep(0.05)  # the engine answers in this loop
        rollout = Rollout.from_record(store.rollout("r1"))
        lake.tables.append(live(kept, now, 1))
        now += timedelta(seconds=1)
        assert now - START < timedelta(hours=4), rollout.reason
    events = [str(entry.event) for entry in rollout.history]
    assert events[:2] == ["adopt", "pass"], rollout.reason
    assert rollout.shadow is not None
    assert "quality" in rollout.shadow.proven
    assert rollout.shadow.answered > 100
    archived = pa.concat_tables(lake.shadow_answers.tables)
    assert set(archived["version"].to_pylist()) == {3}
    assert any(archived["out_text"].to_pylist())
    world.deployment = before
    await world.deploy(base, split=TrafficSplit(1))
