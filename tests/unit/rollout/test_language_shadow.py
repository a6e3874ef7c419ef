"""A language model's candidate in the shadow: it is held without traffic, answers conversations
again, and a scorer or judge compares both answers."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from rollout_world import START, MemoryLake, MemoryRegistry, World

from driftloop_contracts.language import SIGNATURE
from driftloop_contracts.model import Deployment, ModelSpec, ServedVersion, TrafficSplit
from driftloop_contracts.objective import Objective
from driftloop_rollout.answer_losses import AnswerLosses, answer_losses
from driftloop_rollout.machine import Rollout, State
from driftloop_rollout.shadow_order import CONVERSATIONS
from driftloop_rollout.shadow_process import Answered, ShadowDied, ShadowRefused
from driftloop_settings import RolloutSettings, Settings
from driftloop_store.store import Store, open_store

MODEL = "loans"
GOOD, BAD = "yes please", "no"


def polite(_: list[dict[str, Any]], answer: str) -> float:
    return float("please" in answer)


def broken(_: list[dict[str, Any]], answer: str) -> float:
    raise KeyError(answer)


def sure(_: list[dict[str, Any]], answer: str) -> float:
    return 0.9 if "please" in answer else 0.2


def conversations(now_us: int, offsets: np.ndarray, texts: list[str]) -> dict[str, pa.Array]:
    n = len(texts)
    return {
        "prediction_id": pa.array([f"{now_us}-{i}" for i in range(n)]),
        "row": pa.array([0] * n, pa.int32()),
        "predicted_at": pa.array(now_us + np.sort(offsets), pa.timestamp("us", "UTC")),
        "latency_s": pa.array([0.5] * n, pa.float32()),
        "error": pa.array([None] * n, pa.string()),
        "in_messages": pa.array(['[{"role": "user", "content": "Hi"}]'] * n),
        "in_parameters": pa.array(["{}"] * n),
        "in_operation": pa.array(["chat.completions"] * n),
        **outputs(texts),
        "label": pa.array([None] * n, pa.string()),
        "label_number": pa.array([None] * n, pa.float64()),
    }


def outputs(texts: list[str]) -> dict[str, pa.Array]:
    n = len(texts)
    return {
        "out_text": pa.array(texts, pa.string()),
        "out_tool_calls": pa.array([""] * n, pa.string()),
        "out_finish_reason": pa.array(["stop"] * n, pa.string()),
        "out_prompt_tokens": pa.array([3] * n, pa.int32()),
        "out_completion_tokens": pa.array([len(text.split()) for text in texts], pa.int32()),
        "out_first_token_s": pa.array([0.1] * n, pa.float32()),
        "out_token_s": pa.array([0.1] * n, pa.float32()),
    }


@dataclass
class Engine:
    """Answers at once for a candidate that is impolite with a probability."""

    losses: AnswerLosses
    rude: float
    rng: np.random.Generator
    busy: float = 0.0
    dies: bool = False
    refused: str = ""
    empty: float = 0.0
    waiting: pa.Table | None = None
    asked: list[int] = field(default_factory=list)

    @property
    def idle(self) -> bool:
        if self.refused:
            raise ShadowRefused(self.refused)
        return self.waiting is None

    def ask(self, rows: pa.Table) -> None:
        self.waiting = rows
        self.asked.append(rows.num_rows)

    def answered(self) -> Answered | None:
        rows, self.waiting = self.waiting, None
        if rows is None:
            return None
        if self.dies:
            raise ShadowDied("its engine ended while the candidate answered (ReadError)")
        kept = self.rng.random(rows.num_rows) >= self.busy
        rows = rows.filter(pa.array(kept))
        n = rows.num_rows
        draws = self.rng.random(n)
        texts = ["" if d < self.empty else BAD if d < self.rude else GOOD for d in draws]
        answers = pa.table(outputs(texts))
        candidate = rows
        for name in answers.column_names:
            place = candidate.schema.get_field_index(name)
            candidate = candidate.set_column(place, name, answers[name])
        losses, why = self.losses.of(rows, candidate)
        answers = answers.append_column("failed", pa.array([False] * n))
        return Answered(answers, 10.0, 0.4, 0, kept, losses, why)

    def close(self) -> None: ...


class LanguageWorld(World):
    """Thirty conversations a second, whose champion is impolite in every tenth answer."""

    def chat(self, options: Mapping[str, Any], **spec: Any) -> None:
        model = ModelSpec(
            MODEL, "generation", "text", "lora-sft", runtime="vllm", options=options, **spec
        )
        base = ServedVersion(1, "/models/1", SIGNATURE)
        self.store.put_deployment(Deployment(model, (base,), TrafficSplit(1)))
        self.serve()
        self.engines: list[Engine] = []
        self.live_rude = {1: 0.1, 2: 0.1}
        self.how: dict[str, Any] = {"rude": 0.1}
        self.open_graph = self.engine

    def engine(self, _: Rollout, spec: ModelSpec) -> Engine:
        monitored = self.store.monitor_states(MODEL).get(MODEL)
        losses = answer_losses(spec, self.settings, monitored)
        made = Engine(losses, rng=np.random.default_rng(len(self.engines)), **self.how)
        self.engines.append(made)
        return made

    def ask_for(self, path: str = "", base: int | None = 1) -> None:
        candidate = ServedVersion(2, path or "/models/2", SIGNATURE, base)
        self.store.request_rollout("r1", candidate, MODEL, self.now, "the gate was passed")

    def _answers(self, split: TrafficSplit, count: int, seconds: float) -> pa.Table:
        arms = [split.arm(self.rng.bytes(16)) for _ in range(count)]
        draws = zip(self.rng.random(count), arms, strict=True)
        texts = [BAD if draw < self.live_rude[v] else GOOD for draw, (_, v) in draws]
        base = round(self.now.timestamp() * 1e6)
        rows = conversations(base, self.rng.integers(0, int(seconds * 1e6), count), texts)
        rows["version"] = pa.array([v for _, v in arms], pa.int32())
        rows["arm"] = pa.array([arm for arm, _ in arms])
        return pa.table(rows)

    def shadowed(self, seconds: float = 120) -> Rollout:
        """After the shadow."""
        controller, end = self.controller(), self.now + timedelta(seconds=seconds)
        while self.now < end and self.rollout().state in (State.PENDING, State.SHADOW):
            self.run(1, controller=controller)
        return self.rollout()


MakeWorld = Callable[..., LanguageWorld]


@pytest.fixture
def make(tmp_path: Path) -> Any:
    stores: list[Store] = []

    def made(options: Mapping[str, Any], spec: Mapping[str, Any] | None = None) -> LanguageWorld:
        stores.append(open_store(f"sqlite:///{tmp_path / f'{len(stores)}.db'}"))
        settings = Settings(state_dir=tmp_path, rollout=RolloutSettings(holdback=0.0))
        world = LanguageWorld(
            stores[-1], settings, MemoryLake(), MemoryRegistry(), np.random.default_rng(0)
        )
        world.requests_per_s = 32
        world.chat(options, **(spec or {}))
        world.live(20)
        return world

    yield made
    for store in stores:
        store.close()


SCORED = {"scorer": f"{__name__}:polite"}


def test_it_is_held_without_traffic_while_it_answers_in_the_shadow(make: MakeWorld) -> None:
    world = make(SCORED)
    world.ask_for()
    world.run(8)
    assert world.rollout().state is State.SHADOW
    d = world.deployment
    assert ({v.version for v in d.versions}, d.split) == ({1, 2}, TrafficSplit(1))
    assert world.engines[0].asked
    assert max(world.engines[0].asked) <= CONVERSATIONS


def test_a_candidate_that_the_scorer_finds_as_good_goes_on_to_the_canary(make: MakeWorld) -> None:
    world = make(SCORED)
    world.how = {"rude": 0.02}
    world.ask_for()
    rollout = world.shadowed()
    assert [str(entry.event) for entry in rollout.history][:2] == ["adopt", "pass"]
    assert rollout.shadow is not None
    assert "format" in rollout.shadow.proven
    reason = rollout.history[1].reason
    assert "format (with options.scorer): candidate 0." in reason
    assert "the same answer on" in reason
    assert "a mean answer of the candidate has 2 tokens, the champion's 2" in reason
    world.run(5)
    assert {v.version for v in world.deployment.versions} == {1, 2}
    evidence = world.rollout().evidence
    assert evidence is not None
    proven = {m.rule.name for m in evidence.trial.metrics if m.rule.proven}
    decisive = {m.rule.name for m in evidence.trial.metrics if m.rule.decisive}
    assert (proven, decisive) == ({"format"}, {"quality"})  # ratings are left to the canary


def test_a_worse_candidate_ends_in_the_shadow_and_leaves_the_engine(make: MakeWorld) -> None:
    world = make(SCORED)
    world.how = {"rude": 0.4}
    world.ask_for()
    rollout = world.shadowed()
    assert rollout.history[1].event == "harm"
    assert rollout.history[1].reason.startswith("format (with options.scorer): candidate 0.")
    world.run(3)
    assert world.rollout().state is State.ROLLED_BACK
    assert {v.version for v in world.deployment.versions} == {1}
    assert world.most_traffic == {}
    archived = pa.concat_tables(world.lake.shadow_answers.tables)
    assert set(archived["version"].to_pylist()) == {2}
    assert set(archived["out_text"].to_pylist()) == {GOOD, BAD}


def test_a_judge_compares_once_ratings_bear_it_out(make: MakeWorld) -> None:
    named = f"{__name__}:sure"
    world = make({"judge": named})
    world.how = {"rude": 0.5}
    world.ask_for()
    rollout = world.shadowed()
    assert rollout.history[1].event == "skip"
    assert "the judge does not compare: 0 of at least 100 answers" in rollout.history[1].reason

    world = make({"judge": named})
    world.how = {"rude": 0.5}
    rated = [[True, 0.9], [False, 0.2]] * 100
    world.store.put_cursor(f"monitor/{MODEL}", {"judge": {"judge": named, "rated": rated}})
    world.ask_for()
    assert world.shadowed().history[1].reason.startswith("judge: candidate 0.")
    assert world.rollout().verdict == "worse"


def test_with_neither_scorer_nor_judge_it_says_so_and_the_canary_begins(make: MakeWorld) -> None:
    world = make({})
    world.ask_for()
    rollout = world.shadowed()
    assert [str(entry.event) for entry in rollout.history][:2] == ["adopt", "skip"]
    assert "neither a scorer nor a judge" in rollout.history[1].reason
    assert not world.engines


def test_labels_that_depend_on_the_answer_leave_form_agreement_and_length(make: MakeWorld) -> None:
    world = make({}, {"labels_depend_on_answer": True})
    world.how = {"rude": 0.1, "empty": 0.4}
    world.ask_for()
    rollout = world.shadowed()
    assert rollout.shadow is not None
    assert [m.rule.name for m in rollout.shadow.trial.metrics] == ["format", "errors"]
    assert rollout.history[1].event == "harm"
    assert rollout.history[1].reason.startswith("format: candidate 0.")


def test_an_engine_that_ends_under_the_candidate_rolls_it_back_at_once(make: MakeWorld) -> None:
    world = make(SCORED)
    world.how = {"rude": 0.1, "dies": True}
    world.ask_for()
    rollout = world.shadowed()
    assert rollout.history[1].event == "harm"
    assert "its engine ended while the candidate answered" in rollout.history[1].reason
    assert len(world.engines) == 1


def test_weights_that_no_engine_can_load_leave_the_shadow_at_once(make: MakeWorld) -> None:
    world = make(SCORED)
    world.how = {"rude": 0.1, "refused": "two engines do not fit into the memory"}
    world.ask_for(base=None)
    rollout = world.shadowed()
    assert rollout.history[1].event == "skip"
    assert "two engines do not fit into the memory" in rollout.history[1].reason


def test_conversations_for_which_the_engine_has_no_time_are_dropped(make: MakeWorld) -> None:
    world = make(SCORED)
    world.how = {"rude": 0.1, "busy": 0.5}
    world.ask_for()
    world.run(10)
    shadow, asked = world.rollout().shadow, world.engines[0].asked
    assert shadow is not None
    assert 0.3 < shadow.dropped / sum(asked[:-1]) < 0.7
    assert shadow.answered + shadow.dropped == sum(asked[:-1])
    assert f"{shadow.dropped:,} conversations were dropped" in world.rollout().reason


def test_a_busy_engine_leaves_nothing_to_compare_and_the_canary_begins(make: MakeWorld) -> None:
    world = make(SCORED)
    world.with_rules(shadow_s=10.0)
    world.how = {"rude": 0.1, "busy": 1.0}
    world.ask_for()
    rollout = world.shadowed()
    assert rollout.history[1].event == "skip"
    assert rollout.shadow is not None
    assert rollout.shadow.answered == 0
    assert rollout.shadow.dropped > 50


def test_a_scorer_that_always_fails_proves_nothing_and_is_named(make: MakeWorld) -> None:
    world = make({"scorer": f"{__name__}:broken"})
    world.with_rules(shadow_s=20.0)
    world.ask_for()
    rollout = world.shadowed()
    assert rollout.history[1].event == "skip"
    assert "options.scorer raised KeyError: " in rollout.history[1].reason
    assert rollout.shadow is not None
    assert "format" not in rollout.shadow.proven


BY_SCORER = {"objective": Objective(metric="scorer", margin=0.1)}


def test_a_scorer_as_the_objective_is_proven_by_pairs_and_no_label_is_waited_for(
    make: MakeWorld,
) -> None:
    world = make(SCORED, BY_SCORER)
    world.how = {"rude": 0.02}
    world.ask_for()
    rollout = world.shadowed()
    assert rollout.shadow is not None
    assert "quality" in rollout.shadow.proven
    assert "quality: candidate 0." in rollout.history[1].reason
    world.run(200)
    assert world.rollout().state is State.PROMOTED


def test_by_the_scorer_a_worse_candidate_ends_in_the_shadow(make: MakeWorld) -> None:
    world = make(SCORED, BY_SCORER)
    world.how = {"rude": 0.5}
    world.ask_for()
    assert world.shadowed().history[1].reason.startswith("quality: candidate 0.")
    assert world.most_traffic == {}


def test_by_the_scorer_a_canary_without_a_shadow_is_judged_too(make: MakeWorld) -> None:
    world = make(SCORED, BY_SCORER)
    world.with_rules(shadow_share=0.0)
    world.live_rude[2] = 0.5
    world.ask_for()
    world.run(200)
    assert world.rollout().state is State.ROLLED_BACK
    assert world.rollout().reason.startswith("quality: canary "), world.rollout().reason


def test_a_scorer_that_fails_as_the_objective_promotes_nothing_and_is_named(
    make: MakeWorld,
) -> None:
    world = make({"scorer": f"{__name__}:broken"}, BY_SCORER)
    world.with_rules(shadow_s=10.0)
    world.ask_for()
    rollout = world.shadowed()
    assert "options.scorer raised KeyError: " in rollout.history[1].reason
    world.run(20)
    assert "options.scorer raised KeyError" in world.rollout().reason
    assert world.rollout().state not in (State.PROMOTED, State.PROMOTING)


def test_replay_begins_after_the_training_data_and_takes_each_conversation(
    make: MakeWorld, tmp_path: Path
) -> None:
    world = make(SCORED)
    as_of = (world.now - timedelta(seconds=5)).isoformat()
    (tmp_path / "lineage.json").write_text(
        json.dumps({"data": {"predictions": 1, "labels": 1, "as_of": as_of}})
    )
    world.live(30)
    world.requests_per_s, world.how = 0, {"rude": 0.02}
    world.ask_for(str(tmp_path))
    rollout = world.shadowed(60)
    assert rollout.shadow is not None
    assert START < rollout.shadow.since < rollout.shadow.began - timedelta(seconds=29)
    assert rollout.shadow.answered >= 200
    assert rollout.history[1].event == "pass"


def test_a_stage_is_kept_whole(make: MakeWorld) -> None:
    world = make(SCORED)
    world.how = {"rude": 0.1, "busy": 0.2}
    world.ask_for()
    world.run(5)
    stage = world.rollout().shadow
    assert stage is not None
    assert replace(stage) == type(stage).from_dict(stage.to_dict())
