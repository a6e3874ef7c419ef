"""The monitor asks the engine that serves a version how likely corrected texts are, and looks at
prompts by the base's embeddings; here the engine behind its port is a fake one."""

import asyncio
import json
import socket
import sys
import threading
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from test_language_watch import GOOD, SPEC, ChatWorld, answers

from driftloop_contracts.language import CORRECTION, SIGNATURE
from driftloop_contracts.model import Deployment, ServedVersion, TrafficSplit
from driftloop_contracts.replica import LoadedVersions
from driftloop_serving.capture.spool import SpoolWriter
from driftloop_serving.capture.spool_reader import SpoolReader
from driftloop_serving.metrics.meter import ReplicaMeter
from driftloop_serving.openai.openai_engine import EngineApp, Held
from driftloop_settings import CaptureSettings

sys.path.insert(0, str(Path(__file__).parents[2] / "unit" / "llm"))
from fake_engine import FakeEngine

pytestmark = pytest.mark.integration


class Served:
    """An engine's port on a real socket. A text's nats per token are its number of words."""

    def __init__(self, folder: Path) -> None:
        self.engine = FakeEngine()
        self.spool = SpoolWriter(folder, "engine", CaptureSettings())
        app = EngineApp(self.spool, ReplicaMeter(), 1 << 20)
        app.held = Held(self.engine, {1: "chat"}, TrafficSplit(1))
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._socket.getsockname()[1]}"
        self._server = uvicorn.Server(uvicorn.Config(app, lifespan="off", log_level="warning"))
        self._thread = threading.Thread(
            target=lambda: asyncio.run(self._server._serve([self._socket]))
        )
        self._thread.start()

    def close(self) -> None:
        self._server.should_exit = True
        self._thread.join()
        self._socket.close()
        self.spool.close()


class CorrectedWorld(ChatWorld):
    def correct(self, first: int, count: int, words: tuple[int, int]) -> None:
        """The answers from `first` on are corrected as they come, by texts of so many words in
        turn."""
        for i in range(first, first + count):
            text = " ".join(["word"] * words[i % 2])
            at = self.at(i)
            self.lake.said.setdefault(CORRECTION, {})[f"{i:012d}"] = (json.dumps(text), at)

    @staticmethod
    def at(i: int) -> datetime:
        return GOOD["predicted_at"][0].as_py() + timedelta(seconds=i)

    def served_at(self, address: str) -> None:
        loaded = LoadedVersions(versions=(1,), addresses={1: (address,)})
        self.store.put_loaded_versions("chat", loaded)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[CorrectedWorld]:
    world = CorrectedWorld(tmp_path)
    yield world
    world.monitor.close()
    world.store.close()


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    served = Served(tmp_path / "spool")
    yield served
    served.close()


def windows(world: ChatWorld) -> list[dict[str, Any]]:
    """The oldest first."""
    return world.store.windows()[::-1]


def test_texts_that_became_unlikely_warn_and_no_more(world: CorrectedWorld, served: Served) -> None:
    """The first two windows' texts are the reference; the third is judged, and so is the fourth, in
    which people want longer texts."""
    world.served_at(served.address)
    world.correct(1_500, 6_500, words=(2, 3))
    world.correct(8_000, 2_000, words=(4, 5))
    tables = [answers(0, 3_500, liked=0.8)]
    world.live(*tables)
    for first in range(3_500, 9_500, 2_000):
        tables.append(answers(first, 2_000, liked=0.8))
        world.live(*tables)
    shown = [window["performance"] for window in windows(world)]
    assert [window["corrections"] for window in shown] == [32.0] * 4
    assert shown[2]["correction_nats_reference"] == pytest.approx(2.5, abs=0.3)
    assert shown[2]["correction_nats"] == pytest.approx(2.5, abs=0.4)
    assert "the reference has 64 of 64" in windows(world)[1]["reason"]
    (finding,) = [f for f in world.store.findings() if f["check"] == "perplexity"]
    assert (finding["severity"], finding["columns"]) == ("warning", ["correction"])
    assert finding["window_id"] == windows(world)[3]["window_id"]
    assert not world.store.alerts() + world.store.retrains()
    assert not SpoolReader(served.spool.folder).read(1 << 20).predictions


def test_an_engine_that_is_away_is_said_in_the_window(world: CorrectedWorld) -> None:
    world.correct(1_500, 2_000, words=(2, 3))
    world.live(GOOD)
    (window,) = windows(world)
    assert window["status"] == "judged"
    assert "corrected texts: 0 of 32 measured, no engine holds the version" in window["reason"]
    with socket.create_server(("127.0.0.1", 0)) as taken:
        closed = f"127.0.0.1:{taken.getsockname()[1]}"
    world.served_at(closed)
    world.correct(4_000, 2_000, words=(2, 3))
    world.live(GOOD, answers(4_000, 2_000, liked=0.8))
    assert "its engine did not answer (ConnectError)" in windows(world)[1]["reason"]


def test_one_look_asks_for_one_windows_texts(world: CorrectedWorld, served: Served) -> None:
    """Windows that are caught up with share the bound."""
    world.served_at(served.address)
    world.correct(1_500, 6_000, words=(2, 3))
    world.lake.put(answers(0, 7_500, liked=0.8))
    now = world.at(7_500) + timedelta(minutes=10)
    world.monitor.step(now)
    world.monitor.step(now + timedelta(seconds=60))
    assert len(served.engine.told) == 32
    assert len(windows(world)) > 1
    assert "had used up this cycle's limit" in windows(world)[1]["reason"]


def test_a_base_that_is_not_at_hand_is_said_and_prompts_go_on_being_judged(
    world: CorrectedWorld,
) -> None:
    world.store.put_deployment(
        Deployment(
            SPEC, (ServedVersion(1, "s3://models/base", SIGNATURE),), TrafficSplit(1), revision=1
        )
    )
    world.live(GOOD)
    (window,) = windows(world)
    assert "the base model is at s3://models/base, which this role cannot read" in window["reason"]
    assert window["status"] == "judged"


def test_prompts_on_something_else_warn_by_their_embeddings(world: CorrectedWorld) -> None:
    numpy, tokenizers = pytest.importorskip("numpy"), pytest.importorskip("tokenizers")
    files = pytest.importorskip("safetensors.numpy")
    folder = Path(world.store.require_deployment("chat").versions[0].path)
    folder.mkdir(parents=True)
    made = tokenizers.Tokenizer(tokenizers.models.WordLevel({"?": 0, "what": 1, "law": 2}, "?"))
    made.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    made.save(str(folder / "tokenizer.json"))
    matrix = numpy.eye(3, 8, dtype=numpy.float32)
    files.save_file({"model.embed_tokens.weight": matrix}, folder / "model.safetensors")
    other = answers(4_000, 2_000, liked=0.8)
    asked = [json.dumps([{"role": "user", "content": f"law {n}"}]) for n in range(2_000)]
    place = other.column_names.index("in_messages")
    world.live(GOOD, other.set_column(place, "in_messages", [asked]))
    first, second = windows(world)[:2]
    assert first["performance"]["prompt_embedding"] < 0.1
    assert second["performance"]["prompt_embedding"] > 0.3
    (finding,) = [f for f in world.store.findings() if f["check"] == "embeddings"]
    assert (finding["severity"], finding["columns"]) == ("warning", ["prompt_embedding"])
