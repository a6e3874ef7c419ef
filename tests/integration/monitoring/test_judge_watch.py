"""A judge beside people: it scores a language model's answers, and counts once ratings bear it
out."""

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from test_language_watch import SPEC, ChatWorld, Silent, answers

from driftloop_contracts.language import SIGNATURE
from driftloop_contracts.model import Deployment, ServedVersion, TrafficSplit
from driftloop_monitoring.state.monitor_state import MonitorState
from driftloop_monitoring.watch.judge_watch import MAX_RATED
from driftloop_monitoring.watch.worker import Monitor
from driftloop_settings import JudgeSettings, LlmSettings

pytestmark = pytest.mark.integration

ASKED: list[str] = []


def judge(messages: list[dict[str, Any]], answer: str) -> float:
    """Sees how good an answer is, which stands in it."""
    ASKED.append(answer)
    return float(answer.removeprefix("quality "))


def other_judge(messages: list[dict[str, Any]], answer: str) -> float:
    return judge(messages, answer)


def choosy(messages: list[dict[str, Any]], answer: str) -> float | None:
    """Has no score for the 400th answer that it is shown."""
    ASKED.append(answer)
    return None if len(ASKED) == 400 else 0.5


def failing(messages: list[dict[str, Any]], answer: str) -> float:
    ASKED.append(answer)
    raise ConnectionError


def talk(
    first: int, count: int, *, quality: float = 0.7, agrees: bool = True, liked: float = 0.8
) -> pa.Table:
    """Answers of this mean quality, .15 more or less for what people like; they like as many as
    ever."""
    table = answers(first, count, liked=liked)
    rng = np.random.default_rng([first, 7])
    rating = table["label_number"].to_numpy()
    likes = np.where(np.isnan(rating), rng.random(count) < liked, rating > 0.5)
    if not agrees:
        rng.shuffle(likes)
    seen = np.clip(rng.normal(quality + np.where(likes, 0.06, -0.24), 0.1, count), 0, 1)
    place = table.column_names.index("out_text")
    return table.set_column(place, "out_text", [[f"quality {q:.3f}" for q in seen]])


class JudgedWorld(ChatWorld):
    def __init__(self, folder: Path, judge_answers: int = 200) -> None:
        super().__init__(folder)
        self.monitor.close()
        llm = LlmSettings(min_corrections=None, max_perplexity_rise=None)
        judge = JudgeSettings(answers=judge_answers)
        self.settings = self.settings.model_copy(update={"llm": llm, "judge": judge})
        self.monitor = Monitor(self.settings, self.store, self.lake, Silent(self.settings))
        self.revision = 0
        self.names("judge")

    def names(self, function: str) -> None:
        self.revision += 1
        spec = replace(SPEC, options={"judge": f"{__name__}:{function}"} if function else {})
        version = ServedVersion(1, str(self.settings.state_dir / "v1"), SIGNATURE)
        self.store.put_deployment(
            Deployment(spec, (version,), TrafficSplit(1), revision=self.revision)
        )

    def looks(self, count: int) -> None:
        """The monitor looks on while nothing new comes."""
        for _ in range(count):
            self.now += timedelta(minutes=2)
            self.monitor.step(self.now)

    @property
    def state(self) -> MonitorState:
        saved = self.store.cursor("monitor/chat")
        assert saved is not None
        return MonitorState.from_dict(saved)

    def windows(self) -> list[dict[str, Any]]:
        """Of judged windows, the oldest first."""
        return [w for w in self.store.windows()[::-1] if w["kind"] != "labels"]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[JudgedWorld]:
    ASKED.clear()
    world = JudgedWorld(tmp_path)
    yield world
    world.monitor.close()
    world.store.close()


def calibrated(world: JudgedWorld, *, agrees: bool = True) -> list[pa.Table]:
    """Twelve looks later the judge has scored the reference and hundreds of rated answers."""
    tables = [talk(0, 4_000, agrees=agrees)]
    world.live(*tables)
    world.looks(12)
    return tables


def test_before_it_is_calibrated_a_judge_only_shows(world: JudgedWorld) -> None:
    world.live(talk(0, 4_000))
    (window,) = world.windows()
    assert window["status"] == "judged"
    assert "judge: not calibrated: 0 of at least 100 answers have a score" in window["reason"]
    shown = window["performance"]
    assert shown["judge_score"] == pytest.approx(0.7, abs=0.05)
    assert (shown["judge_answers"], shown["judge_counts"]) == (100.0, 0.0)
    assert not world.store.findings() + world.store.alerts()


def test_a_fall_of_its_score_alerts_once_people_bear_it_out(world: JudgedWorld) -> None:
    tables = calibrated(world)
    for first in (4_000, 6_000):
        tables.append(talk(first, 2_000, quality=0.7 if first < 6_000 else 0.4))
        world.live(*tables)
    steady, fallen = world.windows()[1:3]
    assert steady["performance"]["judge_counts"] == 1.0
    assert "judge:" not in steady["reason"]
    assert steady["performance"]["judge_auc_lower"] > 0.9
    assert steady["performance"]["judge_score_reference"] == pytest.approx(0.7, abs=0.03)
    (alert,) = world.store.alerts()
    assert alert.kind == "judge"
    assert "the mean score of the judge" in alert.message
    (finding,) = world.store.findings()
    assert (finding["kind"], finding["window_id"]) == ("judge", fallen["window_id"])
    assert finding["effect"] == pytest.approx(0.3, abs=0.08)
    # It is no measured error, and no broken data: nothing retrains, and a retrain is not held up.
    assert not world.store.retrains()
    assert not world.state.broken
    world.live(*tables, talk(8_000, 2_000, quality=0.4))
    assert len(world.store.alerts()) == len(world.store.findings()) == 1


def test_a_judge_that_people_contradict_never_alerts(world: JudgedWorld) -> None:
    tables = calibrated(world, agrees=False)
    tables.append(talk(4_000, 4_000, quality=0.2, agrees=False))
    world.live(*tables)
    last = world.windows()[-1]
    assert "judge: not calibrated: it ranks well above badly rated" in last["reason"]
    assert last["performance"]["judge_score"] < 0.4
    assert not world.store.alerts()


def test_ratings_alert_and_retrain_whatever_a_judge_says(world: JudgedWorld) -> None:
    tables = [*calibrated(world), talk(4_000, 3_000, liked=0.5, quality=0.8)]
    world.live(*tables)
    assert [alert.kind for alert in world.store.alerts()] == ["performance"]
    assert [retrain.trigger for retrain in world.store.retrains()] == ["alert"]


def test_a_look_asks_for_no_more_than_the_setting_and_stops_when_it_knows_enough(
    world: JudgedWorld,
) -> None:
    world.lake.put(talk(0, 10_000))
    world.now = answers(0, 10_000, liked=0.8)["predicted_at"][-1].as_py() + timedelta(minutes=10)
    asked = []
    for _ in range(12):
        world.looks(1)
        asked.append(len(ASKED) - sum(asked))
    assert max(asked) == 200
    assert asked[-3:] == [0, 0, 0]
    kept = world.state.judge
    assert kept is not None
    assert len(kept.rated) == MAX_RATED
    windows = world.windows()
    assert [w["performance"]["judge_answers"] for w in windows] == [100.0, 100.0, 0.0, 0.0]
    assert "other windows had used up this cycle's limit" in windows[2]["reason"]


def test_a_judge_that_fails_is_said_left_alone_for_a_while_and_asked_again(
    world: JudgedWorld,
) -> None:
    world.names("failing")
    world.live(talk(0, 4_000))
    (window,) = world.windows()
    assert window["status"] == "judged"
    assert "0 of 100 answers scored, it failed (ConnectionError)" in window["reason"]
    before = len(ASKED)
    world.monitor.step(world.now + timedelta(seconds=90))
    assert len(ASKED) == before
    world.looks(1)
    assert len(ASKED) > before


def test_an_answer_without_a_score_is_not_asked_for_for_ever(tmp_path: Path) -> None:
    """It is the reference's last, alone in its look."""
    ASKED.clear()
    world = JudgedWorld(tmp_path, judge_answers=133)
    world.names("choosy")
    world.live(talk(0, 2_000))
    world.looks(8)
    kept = world.state.judge
    assert kept is not None
    assert (kept.asked, len(kept.reference), len(kept.rated) > 100) == (400, 399, True)
    world.monitor.close()
    world.store.close()


def test_a_judge_that_cannot_be_loaded_is_said(world: JudgedWorld) -> None:
    world.names("nobody")
    world.live(talk(0, 4_000))
    assert "judge: options.judge 'test_judge_watch:nobody'" in world.windows()[0]["reason"]


def test_another_judge_starts_from_nothing(world: JudgedWorld) -> None:
    tables = calibrated(world)
    world.names("other_judge")
    world.monitor.close()
    world.monitor = Monitor(world.settings, world.store, world.lake, Silent(world.settings))
    world.live(*tables, talk(4_000, 2_000))
    assert "not calibrated: 0 of" in world.windows()[1]["reason"]


def test_without_a_judge_nothing_of_it_is_there(world: JudgedWorld) -> None:
    world.names("")
    world.live(talk(0, 4_000))
    (window,) = world.windows()
    assert "judge:" not in window["reason"]
    assert not [name for name in window["performance"] if name.startswith("judge")]
    assert world.state.judge is None
    code = (
        "import sys, driftloop_monitoring.watch.worker as _;"
        "print([m for m in sys.modules if m.endswith(('judge', 'judge_watch', 'calibration'))])"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "[]"
