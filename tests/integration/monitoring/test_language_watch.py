"""The monitor over a language model: ratings that fall, and corrections that come."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from monitored_world import START, MemoryLake

from driftloop_contracts.language import CORRECTION, PREFERRED, SIGNATURE
from driftloop_contracts.model import Deployment, ModelSpec, ServedVersion, TrafficSplit
from driftloop_contracts.retrain import RetrainEvent
from driftloop_lake.port import Pin
from driftloop_monitoring.watch.worker import FindingsTopic, Monitor
from driftloop_settings import LlmSettings, Settings
from driftloop_store.store import Store, open_store

pytestmark = pytest.mark.integration

SPEC = ModelSpec("chat", "generation", "text", "lora-sft", runtime="vllm")


def answers(first: int, count: int, *, liked: float, rated: float = 0.3) -> pa.Table:
    """Answer i was given at START + i seconds; thumbs from a share of the users."""
    rng = np.random.default_rng(first)
    thumbs = np.where(rng.random(count) < liked, 1.0, 0.0)
    known = rng.random(count) < rated
    at = [START + timedelta(seconds=first + i) for i in range(count)]
    asked = [
        json.dumps([{"role": "user", "content": f"Question {n}?"}])
        for n in rng.integers(0, 9999, count)
    ]
    return pa.table(
        {
            "prediction_id": [f"{first + i:012d}" for i in range(count)],
            "row": pa.array([0] * count, pa.int32()),
            "version": pa.array([1] * count, pa.int32()),
            "arm": ["stable"] * count,
            "predicted_at": pa.array(at, pa.timestamp("us", tz="UTC")),
            "in_messages": asked,
            "in_parameters": ["{}"] * count,
            "in_operation": ["chat.completions"] * count,
            "out_text": ["It is as it is, and that is all."] * count,
            "out_tool_calls": [""] * count,
            "out_finish_reason": ["stop"] * count,
            "out_token_s": pa.array(rng.gamma(20.0, 0.001, count), pa.float32()),
            "label": pa.array(
                [str(t) if k else None for t, k in zip(thumbs, known, strict=True)], pa.string()
            ),
            "label_number": pa.array(
                np.where(known, thumbs, np.nan), pa.float64(), from_pandas=True
            ),
        }
    )


class ChatLake(MemoryLake):
    """`corrected`: when corrections were received."""

    def __init__(self) -> None:
        super().__init__()
        self.corrected: list[datetime] = []

    def answers_with(
        self, model: str, pin: Pin, metrics: Sequence[str], since: datetime | None
    ) -> int:
        assert set(metrics) == {CORRECTION, PREFERRED}
        return sum(since is None or at > since for at in self.corrected)


class Silent(FindingsTopic):
    def send(self, findings: object) -> bool:
        return True


class ChatWorld:
    def __init__(self, folder: Path) -> None:
        self.settings = Settings(state_dir=folder, llm=LlmSettings(min_corrections=50))
        self.store: Store = open_store(self.settings.store_url)
        version = ServedVersion(1, str(folder / "v1"), SIGNATURE)
        self.store.put_deployment(Deployment(SPEC, (version,), TrafficSplit(1)))
        self.lake = ChatLake()
        self.monitor = Monitor(self.settings, self.store, self.lake, Silent(self.settings))

    def live(self, *tables: pa.Table) -> None:
        """The lake holds these answers; the monitor looks twice, when their ratings are in."""
        self.lake.put(*tables)
        self.now = tables[-1]["predicted_at"][-1].as_py() + timedelta(minutes=10)
        for seconds in (0, 60):
            self.monitor.step(self.now + timedelta(seconds=seconds))


@pytest.fixture
def world(tmp_path: Path) -> Iterator[ChatWorld]:
    world = ChatWorld(tmp_path)
    yield world
    world.monitor.close()
    world.store.close()


GOOD = answers(0, 4_000, liked=0.8)


def test_steady_ratings_give_windows_and_nothing_else(world: ChatWorld) -> None:
    world.live(GOOD)
    (window,) = world.store.windows()
    assert (window["status"], window["rows"]) == ("judged", 2_000)
    assert window["performance"]["baseline"] == pytest.approx(0.2, abs=0.06)
    assert not world.store.findings() + world.store.alerts() + world.store.decisions()


def test_a_policy_that_is_deployed_later_holds_without_a_restart(world: ChatWorld) -> None:
    world.live(GOOD)
    deployment = world.store.require_deployment(SPEC.name)
    spec = replace(SPEC, policy={"monitoring": {"window_rows": 500}})
    world.store.put_deployment(replace(deployment, model=spec))
    world.live(GOOD)
    assert [window["rows"] for window in world.store.windows()] == [500, 2_000]


def test_ratings_that_fall_alert_and_retrain(world: ChatWorld) -> None:
    world.live(GOOD, answers(4_000, 3_000, liked=0.5))
    (alert,) = world.store.alerts()
    assert "the mean rating fell from" in alert.message
    (retrain,) = world.store.retrains()
    assert retrain.trigger == "alert"


def test_corrections_retrain_a_model_whose_ratings_never_fell_and_count_once(
    world: ChatWorld,
) -> None:
    poor = answers(0, 4_000, liked=0.05)
    world.lake.corrected = [START] * 49
    world.live(poor)
    assert not world.store.retrains()
    world.lake.corrected = [START] * 50
    world.live(poor)
    (retrain,) = world.store.retrains()
    assert (retrain.trigger, world.store.alerts()) == ("corrections", [])
    for event in (RetrainEvent.START, RetrainEvent.REJECT):
        world.store.change_retrain(retrain.id, lambda r, event=event: r.after(event))
    world.live(poor)
    assert len(world.store.retrains()) == 1
