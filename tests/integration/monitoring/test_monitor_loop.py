"""The monitor over a lake in memory, a real store and Evidently's real stattests and report."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from monitored_world import SPEC, START, MemoryLake, deployment, rows, served

from driftloop_contracts.model import TrafficSplit
from driftloop_monitoring.state.monitor_state import MonitorState
from driftloop_monitoring.statistics import evidently_adapter
from driftloop_monitoring.statistics.drift import Distance
from driftloop_monitoring.watch.model_watch import READ_ROWS
from driftloop_monitoring.watch.worker import FindingsTopic, Monitor
from driftloop_settings import Settings
from driftloop_store.cycle_health import CycleHealth
from driftloop_store.store import Store, open_store

pytestmark = pytest.mark.integration


class ListedTopic(FindingsTopic):
    """Keeps what it is sent; `away` while the broker is."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.sent: list[Mapping[str, Any]] = []
        self.away = False

    def send(self, findings: tuple[Mapping[str, Any], ...]) -> bool:
        if not self.away:
            self.sent.extend(json.loads(json.dumps(f)) for f in findings)
        return not self.away


class World:
    def __init__(self, folder: Path, reference: bool = True, read_rows: int = READ_ROWS) -> None:
        self.read_rows = read_rows
        self.settings = Settings(state_dir=folder, monitoring={"window_least_seconds": 0.0})
        self.store: Store = open_store(self.settings.store_url)
        self.store.put_deployment(deployment(folder, reference))
        self.folder = folder
        self.lake = MemoryLake()
        self.topic = ListedTopic(self.settings)
        self.distance: Distance = evidently_adapter.distance
        self.restart()

    def restart(self) -> None:
        """As after kill -9: only the store and the lake remain."""
        self.monitor = Monitor(
            self.settings,
            self.store,
            self.lake,
            self.topic,
            self.distance,
            read_rows=self.read_rows,
            health=CycleHealth(self.store, "monitor", patience_s=0.0),
        )

    def live(self, *tables: pa.Table) -> None:
        """The lake holds these rows, and the monitor looks, a minute after the newest."""
        self.lake.put(*tables)
        newest: datetime = tables[-1]["predicted_at"][-1].as_py()
        self.now = newest + timedelta(minutes=1)
        self.monitor.step(self.now)

    def look(self, seconds: float = 60.0) -> None:
        self.now += timedelta(seconds=seconds)
        self.monitor.step(self.now)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path)
    yield world
    world.monitor.close()
    world.store.close()


CALM = rows(0, 8_000)
WORSE = rows(8_000, 6_000, error=0.2)


def test_calm_traffic_gives_windows_and_nothing_else(world: World) -> None:
    world.live(CALM)
    windows = world.store.windows()
    assert [w["status"] for w in windows] == ["judged"] * 4
    assert all(w["labelled"] == 2_000 for w in windows)
    assert not world.store.findings() + world.store.alerts() + world.store.decisions()
    sketches = world.store.between("sketches", "loans")
    assert [s["id"] for s in sketches] == [w["window_id"] for w in windows]
    assert all(0.0 <= moved < 0.1 for s in sketches for moved, *_ in s["columns"].values())
    known = world.store.reference_sketches("loans", {1})[1]["columns"]
    assert known.keys() == sketches[0]["columns"].keys() > {"in_amount", "in_city"}
    assert sorted(known["in_city"]["names"]) == ["bonn", "lyon", "oslo"]


def test_a_measured_error_alerts_and_asks_for_one_retrain(world: World) -> None:
    world.live(CALM)
    world.live(CALM, WORSE)
    (alert,) = world.store.alerts()
    assert (alert.kind, alert.severity) == ("performance", "critical")
    assert abs(alert.change_at - WORSE["predicted_at"][0].as_py()) < timedelta(seconds=0.6)
    (retrain,) = world.store.retrains()
    assert (retrain.champion, retrain.trigger) == (1, "alert")
    world.look()
    world.restart()
    world.look()
    assert len(world.store.alerts()) == len(world.store.retrains()) == 1
    assert [d["verdict"] for d in world.store.decisions()] == ["wait", "retrain"]
    assert [f["kind"] for f in world.topic.sent] == ["performance"]


def test_an_alert_waits_for_fresh_labels_and_fires_once_they_are_there(world: World) -> None:
    world.live(CALM, rows(8_000, 1_200, error=0.2))
    assert [d["verdict"] for d in world.store.decisions()] == ["wait"]
    assert not world.store.retrains()
    world.look()
    assert len(world.store.decisions()) == 1
    world.live(CALM, rows(8_000, 1_200, error=0.2), rows(9_200, 1_500, error=0.2))
    assert len(world.store.retrains()) == 1


def test_rows_are_judged_only_once_their_labels_are_in(world: World) -> None:
    world.live(CALM, rows(8_000, 6_000, error=0.2, labelled=90))
    assert not world.store.alerts()
    world.live(CALM, WORSE)
    assert len(world.store.alerts()) == 1


def test_drift_alone_warns_and_says_why_it_does_not_retrain(world: World) -> None:
    world.live(rows(0, 4_000, shift=0.5))
    assert {(f["kind"], *f["columns"], f["severity"]) for f in world.store.findings()} == {
        ("drift", "amount", "warning")
    }
    newest = world.store.between("sketches", "loans")[0]["columns"]
    assert max(newest, key=lambda column: newest[column][0]) == "in_amount"
    (decision,) = world.store.decisions()
    assert (decision["verdict"], "no rise" in decision["reason"]) == ("wait", True)
    assert not world.store.alerts() + world.store.retrains()


def test_broken_data_alert_but_never_retrain_and_the_alert_closes_when_they_are_sound(
    world: World,
) -> None:
    broken = rows(0, 6_000, missing=True, error=0.3)
    world.live(broken)
    assert {a.kind for a in world.store.alerts()} == {"quality", "performance"}
    assert not world.store.retrains()
    world.live(broken, rows(6_000, 2_000, error=0.3))
    states = {a.kind: a.state for a in world.store.alerts()}
    assert states == {"quality": "closed", "performance": "open"}
    assert len(world.store.retrains()) == 1


@pytest.mark.parametrize("lost_after", [0, 1])
def test_a_crash_before_the_cursor_is_saved_doubles_nothing(world: World, lost_after: int) -> None:
    world.live(CALM)
    saved = world.store.cursor("monitor/loans")
    assert saved is not None
    world.live(CALM, WORSE)
    before = [len(world.store.windows()), len(world.store.findings()), len(world.store.alerts())]
    world.store.put_cursor("monitor/loans", saved)
    world.restart()
    world.look(lost_after)
    again = [len(world.store.windows()), len(world.store.findings()), len(world.store.alerts())]
    assert again == before
    assert len(world.store.retrains()) == 1


def test_a_new_champion_closes_the_alert_and_starts_from_scratch(world: World) -> None:
    world.live(CALM, WORSE)
    found = world.store.require_deployment("loans")
    v2 = served(world.folder, 2)
    world.store.put_deployment(replace(found.with_version(v2), split=TrafficSplit(2)))
    world.look()
    assert [a.state for a in world.store.alerts()] == ["closed"]
    after = int((world.now - START) / timedelta(milliseconds=2)) + 1
    world.live(CALM, WORSE, rows(after, 2_000, version=2))
    assert [a.state for a in world.store.alerts()] == ["closed"]
    cursor = world.store.cursor("monitor/loans")
    assert cursor is not None
    assert (cursor["version"], cursor["test"]["rows"]) == (2, 2_000)


def test_findings_wait_for_the_broker(world: World) -> None:
    world.topic.away = True
    world.live(CALM, WORSE)
    assert not world.topic.sent
    world.restart()
    world.topic.away = False
    world.look()
    assert [f["kind"] for f in world.topic.sent] == ["performance"]


def test_unaccounted_loss_makes_windows_inconclusive(world: World) -> None:
    world.store.put_ledger(
        "r", "loans", 1, served=8_000, acked=7_000, spooled=0, dropped={"quota": 10}
    )
    world.live(rows(0, 2_000, shift=2.0))
    (window,) = world.store.windows()
    assert (window["status"], "990" in window["reason"]) == ("inconclusive", True)
    assert not world.store.findings()


def test_a_model_without_a_reference_is_compared_with_its_first_rows(tmp_path: Path) -> None:
    world = World(tmp_path, reference=False)
    world.live(rows(0, 4_000))
    assert not world.store.windows()
    world.live(rows(0, 8_000))
    world.look()
    world.live(rows(0, 8_000), rows(8_000, 4_000, error=0.3))
    assert {w["reason"] for w in world.store.windows() if w["kind"] == "count"} == {
        "reference: the first live rows"
    }
    assert [a.kind for a in world.store.alerts()] == ["performance"]
    world.monitor.close()
    world.store.close()


def test_rows_of_a_model_that_nobody_labels_are_read_once(world: World) -> None:
    """Else the monitor grows with everything that was ever predicted."""
    told = world.store.require_deployment("loans")
    world.store.put_deployment(replace(told, model=replace(SPEC, task=None)))
    world.live(CALM)
    world.look()
    saved = MonitorState.from_dict(world.store.cursor("monitor/loans"))
    assert saved.tested == saved.windowed
    assert saved.windowed.at >= CALM["predicted_at"][-1].as_py()


def test_what_has_piled_up_is_judged_in_parts_and_with_the_same_result(
    world: World, tmp_path: Path
) -> None:
    """What is read at a time is bounded, or the memory would grow with what waits for labels."""
    world.live(CALM, WORSE)
    (tmp_path / "slow").mkdir()
    slow = World(tmp_path / "slow", read_rows=1)  # two windows are read in any case
    slow.live(CALM, WORSE)
    for _ in range(8):
        slow.look()
    assert max(slow.lake.oldest_read) == 4_000
    one, other = (
        {w["window_id"]: w["mean_loss"] for w in each.store.windows() if w["kind"] == "count"}
        for each in (world, slow)
    )
    assert one == other
    assert [a.kind for a in slow.store.alerts()] == ["performance"]
    slow.monitor.close()
    slow.store.close()


def test_an_alert_gets_its_report(world: World) -> None:
    world.live(CALM, WORSE)
    reports = world.monitor.reports
    reports.wait(150.0)
    world.look()
    (alert,) = world.store.alerts()
    path = Path(alert.report or "")
    assert path.parent == world.settings.reports_dir
    assert "in_amount" in path.read_text()
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_a_decision_that_fails_loses_nothing_that_was_judged(world: World) -> None:
    never = world.settings.trigger.model_copy(update={"schedule": "0 3 31 2 *"})
    whole, world.settings = world.settings, world.settings.model_copy(update={"trigger": never})
    world.restart()
    world.live(CALM)
    windows = world.store.windows()
    world.look()
    assert len(windows) == 4
    saved = world.store.cursor("monitor/loans")
    assert saved is not None
    assert MonitorState.from_dict(saved).windowed is not None
    assert world.store.windows() == windows
    (degraded,) = world.store.degraded()
    assert (degraded.subject, "0 3 31 2 *" in degraded.reason) == ("loans", True)
    assert [alert.kind for alert in world.store.alerts()] == ["role"]
    world.settings = whole
    world.restart()
    world.look()
    assert world.store.degraded() == []
    assert [alert.state for alert in world.store.alerts()] == ["closed"]


def test_rows_that_cannot_be_judged_hold_up_neither_labels_nor_decision(world: World) -> None:
    def fails(*_: object) -> float:
        raise ArithmeticError("no distance")

    world.distance = fails  # type: ignore[assignment]
    world.restart()
    world.live(CALM, rows(8_000, 6_000, error=0.2, shift=0.5))
    assert {alert.kind for alert in world.store.alerts()} == {"performance", "role"}
    assert len(world.store.retrains()) == 1
    assert len(world.store.windows()) == 5  # four calm ones, and that of the labels
    assert ["no distance" in found.reason for found in world.store.degraded()] == [True]
    world.distance = evidently_adapter.distance
    world.restart()
    world.look()
    assert world.store.degraded() == []
    assert len(world.store.windows()) == 8


def test_a_window_that_can_never_be_judged_is_given_up_and_the_next_ones_are_judged(
    world: World,
) -> None:
    moved = rows(2_000, 2_000, shift=0.5)
    worst = max(moved["in_amount"].to_pylist())

    def fails(kind: Any, reference: Any, window: Any) -> float:
        if worst in window.values.tolist():
            raise ArithmeticError("no distance")
        return evidently_adapter.distance(kind, reference, window)

    world.distance = fails
    world.restart()
    world.live(rows(0, 2_000), moved, rows(4_000, 2_000))
    assert len(world.store.windows()) == 1
    assert [found.subject for found in world.store.degraded()] == ["loans"]
    for _ in range(5):
        world.look()
    given_up = [w for w in world.store.windows() if w["status"] == "inconclusive"]
    assert ["no distance" in w["reason"] for w in given_up] == [True]
    assert len(world.store.windows()) == 3
    (finding,) = world.store.findings()
    assert (finding["kind"], finding["window_id"]) == ("unjudged", given_up[0]["window_id"])
    unjudged = [a for a in world.store.alerts() if a.kind == "unjudged"]
    assert ["no distance" in a.message for a in unjudged] == [True]
    assert [a.state for a in unjudged] == ["closed"]  # by the window after it, which was judged
    assert world.store.degraded() == []
    assert [f["kind"] for f in world.topic.sent] == ["unjudged"]


def test_labels_that_can_never_be_tested_are_given_up_and_what_was_learned_is_kept(
    world: World,
) -> None:
    world.live(rows(0, 2_000))
    saved = world.store.cursor("monitor/loans")
    assert saved is not None
    broken = {**saved, "test": {**saved["test"], "bets": saved["test"]["bets"][:1]}}
    world.store.put_cursor("monitor/loans", broken)
    world.live(rows(0, 2_000), rows(2_000, 2_000))
    assert [found.subject for found in world.store.degraded()] == ["loans"]
    assert len(world.store.windows()) == 2  # windows are judged meanwhile
    for _ in range(5):
        world.look()
    (given_up,) = [w for w in world.store.windows() if w["status"] == "inconclusive"]
    assert (given_up["kind"], given_up["rows"]) == ("labels", 2_000)
    (finding,) = world.store.findings()
    assert (finding["kind"], finding["window_id"]) == ("unjudged", given_up["window_id"])
    (unjudged,) = [a for a in world.store.alerts() if a.kind == "unjudged"]
    assert "the test of 2,000 labelled rows" in unjudged.message
    assert unjudged.state == "open"
    state = world.store.cursor("monitor/loans")
    assert state is not None
    assert state["test"] == broken["test"]
    world.store.put_cursor("monitor/loans", {**state, "test": saved["test"]})
    world.live(rows(0, 2_000), rows(2_000, 2_000), rows(4_000, 2_000))
    assert {a.state for a in world.store.alerts()} == {"closed"}
    assert world.store.degraded() == []


def test_a_window_that_ends_the_process_is_given_up_as_well(world: World) -> None:
    class Killed(BaseException):
        """As of the kernel: nobody is left to say what failed."""

    def dies(*_: object) -> float:
        raise Killed

    world.distance = dies  # type: ignore[assignment]
    world.restart()
    world.lake.put(rows(0, 2_000, shift=0.5))  # a distance is asked of what moved
    world.now = START + timedelta(minutes=1)
    for _ in range(5):
        world.restart()
        with pytest.raises(Killed):
            world.look(31.0)
    world.look(31.0)
    (window,) = world.store.windows()
    assert window["status"] == "inconclusive"
    assert "the monitor ended while it judged" in window["reason"]
    assert [a.state for a in world.store.alerts()] == ["open"]
