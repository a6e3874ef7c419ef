"""The shadow before the canary, with a store, an in-memory lake, and a candidate that answers at
once."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from rollout_world import START, Behaviour, World

from driftloop_contracts.model import TrafficSplit
from driftloop_rollout.machine import Event, State
from driftloop_rollout.shadow_process import Answered, ShadowDied, ShadowRefused

MakeWorld = Callable[..., World]


@dataclass
class Graph:
    """A candidate whose answers are wrong, or fail, with a probability."""

    behaviour: Behaviour
    rng: np.random.Generator
    dies: bool = False
    refused: str = ""
    waiting: pa.Table | None = None
    closed: bool = False
    cpu_s: float = 0.0
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
        if self.waiting is None:
            return None
        if self.dies:
            raise ShadowDied("its process ended (SIGSEGV)")
        truth = self.waiting["in_x"].to_numpy()
        n, rng = len(truth), self.rng
        wrong = rng.random(n) < self.behaviour.wrong
        failed = rng.random(n) < self.behaviour.failing
        answer = pa.array(np.where(wrong, 1 - truth, truth).astype(np.int64), mask=failed)
        self.waiting = None
        table = pa.table({"out_label": answer, "failed": pa.array(failed)})
        return Answered(table, 1e5, 0.001, 1 << 20, cpu_s=self.cpu_s)

    def close(self) -> None:
        self.closed = True


@dataclass
class Graphs:
    """Opens graphs, and remembers them."""

    behaviour: Behaviour = field(default_factory=lambda: Behaviour(wrong=0.063))
    opened: list[Graph] = field(default_factory=list)
    how: dict[str, Any] = field(default_factory=dict)

    def __call__(self, *_: object) -> Graph:
        graph = Graph(self.behaviour, np.random.default_rng(len(self.opened)), **self.how)
        self.opened.append(graph)
        return graph


@pytest.fixture
def graphs() -> Graphs:
    return Graphs()


@pytest.fixture
def shadowed(make_world: MakeWorld, graphs: Graphs, tmp_path: Path) -> World:
    """A model whose candidate is in the shadow, with some traffic."""
    world = make_world(shadow_share=1.0)
    world.open_graph = graphs
    world.requests_per_s = 40
    world.request(path=str(tmp_path))
    return world


def events(world: World) -> list[str]:
    return [str(entry.event) for entry in world.rollout().history]


def test_a_good_candidate_proves_its_quality_by_pairs_before_any_replica_holds_it(
    shadowed: World, graphs: Graphs
) -> None:
    controller = shadowed.controller()
    while shadowed.rollout().state in (State.PENDING, State.SHADOW):
        assert {v.version for v in shadowed.deployment.versions} == {1}
        shadowed.run(1, controller=controller)
    rollout = shadowed.rollout()
    assert events(shadowed)[:2] == ["adopt", "pass"]
    assert rollout.shadow is not None
    assert "quality" in rollout.shadow.proven
    assert 0.8 < (rollout.shadow.agreed or 0.0) < 0.95
    sides = [rollout.shadow.metrics[side] for side in ("candidate", "champion")]
    better, worse = (side["outputs"][0]["metrics"]["accuracy"] for side in sides)
    assert better[0] > worse[0] > 0.9
    assert better[1] < better[0] < better[2]
    shadowed.run(10, controller=controller)
    assert graphs.opened[0].closed
    evidence = shadowed.rollout().evidence
    assert evidence is not None
    decisive = {m.rule.name for m in evidence.trial.metrics if m.rule.decisive}
    assert decisive == {"errors", "latency"}


def test_it_is_promoted_when_the_canary_shows_errors_and_latency(shadowed: World) -> None:
    shadowed.with_rules(steps=(0.5,))
    shadowed.run(120)
    assert shadowed.rollout().state is State.PROMOTED
    assert shadowed.deployment.split == TrafficSplit(2)


def test_live_rows_take_a_share_of_a_core_if_the_machine_is_busy(
    shadowed: World, graphs: Graphs
) -> None:
    shadowed.lake.label_delay = timedelta(days=1)
    shadowed.with_rules(shadow_cpu=0.05, shadow_busy_from=0.0)
    graphs.how = {"cpu_s": 1.0}
    shadowed.run(121)
    asked = graphs.opened[0].asked
    assert len(asked) in (6, 7)  # an order of one second of CPU in each 20 seconds
    assert shadowed.rollout().shadow is not None
    assert asked[-1] > 15 * 40  # rows are not skipped


def test_a_bad_candidate_ends_in_the_shadow_and_no_user_meets_it(
    shadowed: World, graphs: Graphs
) -> None:
    graphs.behaviour = Behaviour(wrong=0.2)
    shadowed.run(120)
    rollout = shadowed.rollout()
    assert (rollout.state, rollout.verdict) == (State.ROLLED_BACK, "worse")
    assert events(shadowed) == ["adopt", "harm", "settle"]
    assert "quality" in rollout.reason
    assert shadowed.most_traffic == {}
    assert {v.version for v in shadowed.deployment.versions} == {1}
    assert graphs.opened[0].closed


def test_a_candidate_that_fails_on_rows_ends_in_the_shadow_though_no_label_comes(
    shadowed: World, graphs: Graphs
) -> None:
    graphs.behaviour = Behaviour(failing=0.5)
    shadowed.lake.label_delay = timedelta(days=1)
    shadowed.run(120)
    assert shadowed.rollout().state is State.ROLLED_BACK
    assert shadowed.rollout().reason.startswith("errors")


def test_a_shadow_that_dies_again_and_again_rolls_back(shadowed: World, graphs: Graphs) -> None:
    graphs.how = {"dies": True}
    shadowed.run(60)
    assert shadowed.rollout().state is State.ROLLED_BACK
    assert "did not survive the shadow: its process ended (SIGSEGV)" in shadowed.rollout().reason
    assert len(graphs.opened) == 3
    assert all(graph.closed for graph in graphs.opened)


def test_what_cannot_be_loaded_in_the_shadow_is_left_to_replicas(
    shadowed: World, graphs: Graphs
) -> None:
    graphs.how = {"refused": "no such provider"}
    shadowed.run(10)
    assert events(shadowed)[:3] == ["adopt", "skip", "loaded"]
    assert "no such provider" in shadowed.rollout().history[1].reason


def test_without_labels_it_leaves_the_shadow_in_time_and_says_why(
    make_world: MakeWorld, graphs: Graphs, tmp_path: Path
) -> None:
    world = make_world(shadow_share=1.0, shadow_s=20.0)
    world.open_graph, world.requests_per_s = graphs, 3
    world.lake.label_delay = timedelta(days=1)
    world.request(path=str(tmp_path))
    world.run(15)
    assert world.rollout().state is State.SHADOW
    assert "labels are late" in world.rollout().reason
    world.run(10)
    assert events(world)[:3] == ["adopt", "skip", "loaded"]
    assert "no verdict within 20 s" in world.rollout().history[1].reason
    evidence = world.rollout().evidence
    assert evidence is not None
    assert {m.rule.share for m in evidence.trial.metrics} == {0.5}  # errors were bet on


def test_without_traffic_it_leaves_the_shadow_in_time(
    make_world: MakeWorld, graphs: Graphs, tmp_path: Path
) -> None:
    world = make_world(shadow_share=1.0, shadow_s=20.0)
    world.open_graph, world.requests_per_s = graphs, 0
    world.request(path=str(tmp_path))
    world.run(30)
    assert world.rollout().state is State.RUNNING


def test_what_cannot_be_shadowed_does_not_wait_for_rows(shadowed: World) -> None:
    d = shadowed.deployment
    chat = replace(d.model, task="generation", runtime="vllm")
    shadowed.store.put_deployment(replace(d, model=chat))
    shadowed.requests_per_s = 0
    shadowed.run(1)
    assert shadowed.rollout().history[1].event == "skip"
    assert "nothing compares two answers" in shadowed.rollout().history[1].reason


def test_labels_that_depend_on_the_answer_are_not_paired(shadowed: World, graphs: Graphs) -> None:
    d = shadowed.deployment
    shadowed.store.put_deployment(replace(d, model=replace(d.model, labels_depend_on_answer=True)))
    shadowed.serve()
    graphs.behaviour = Behaviour(wrong=0.5)
    shadowed.requests_per_s = 50
    shadowed.run(60)
    rollout = shadowed.rollout()
    assert events(shadowed)[:2] == ["adopt", "pass"]
    assert rollout.shadow is not None
    assert [m.rule.name for m in rollout.shadow.trial.metrics] == ["errors"]
    assert any("depend on the answer" in note for note in rollout.shadow.notes)
    evidence = rollout.evidence
    assert evidence is not None  # the canary judges the quality
    assert evidence.trial.metrics[0].rule.decisive
    assert evidence.trial.metrics[0].rule.name == "quality"


def test_a_controller_that_was_killed_goes_on_and_counts_each_row_once(
    shadowed: World, graphs: Graphs
) -> None:
    graphs.behaviour = Behaviour(wrong=0.085)
    for _ in range(60):
        shadowed.run(2, controller=shadowed.controller())  # a fresh one each time
        if shadowed.rollout().state is not State.SHADOW:
            break
    rollout = shadowed.rollout()
    assert events(shadowed)[:2] == ["adopt", "pass"]
    assert rollout.shadow is not None
    archived = pa.concat_tables(shadowed.lake.shadow_answers.tables)
    ids = list(zip(*(archived[n].to_pylist() for n in ("prediction_id", "row")), strict=True))
    assert len(ids) == len(set(ids)) == rollout.shadow.answered


def test_replay_begins_after_the_training_data(
    make_world: MakeWorld, graphs: Graphs, tmp_path: Path
) -> None:
    world = make_world(shadow_share=1.0)  # with 20 s of past
    pin = world.lake.pin("loans")
    assert pin is not None
    as_of = (world.now - timedelta(seconds=4)).isoformat()
    world.live(30)
    data = f'{{"predictions": {pin.predictions}, "labels": {pin.labels}, "as_of": "{as_of}"}}'
    (tmp_path / "lineage.json").write_text(f'{{"data": {data}}}')
    world.open_graph, world.requests_per_s = graphs, 0
    world.request(path=str(tmp_path))
    world.run(10)
    rollout = world.rollout()
    assert rollout.history[1].event is Event.PASS
    assert rollout.shadow is not None
    assert rollout.shadow.since >= START + timedelta(seconds=15)
    assert rollout.shadow.since < rollout.shadow.began - timedelta(seconds=25)
    assert rollout.shadow.answered > 2_000
