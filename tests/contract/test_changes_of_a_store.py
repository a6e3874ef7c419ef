"""What open pages ask of a store on SQLite and PostgreSQL: what changed, and records by time."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from console_records import (
    NOW,
    alert,
    deploy,
    drift,
    fill,
    monitor_state,
    running_rollout,
    window,
)
from incident_cases import incident_of

from driftloop_contracts.alert import AlertEvent
from driftloop_contracts.health import Degraded
from driftloop_contracts.incident import IncidentChange
from driftloop_contracts.judgement import CheckKind
from driftloop_contracts.replica import LoadedVersions, ReplicaStatuses
from driftloop_contracts.retrain import Retrain, RetrainEvent, Stage
from driftloop_store import Store, open_store
from driftloop_store.tables import cursors


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.integration)])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    on_sqlite = request.param == "sqlite"
    url = f"sqlite:///{tmp_path / 'store.db'}" if on_sqlite else None
    with closing(open_store(url or str(request.getfixturevalue("postgres_url")))) as opened:
        yield opened


def test_each_change_of_a_models_records_is_counted_once(store: Store) -> None:
    deploy(store, "m", 1)
    counted = [store.revisions()["m"]]
    for change in (
        lambda: store.add_window(window("m", 0)),
        lambda: store.add_finding(drift("m", 0, "income")),
        lambda: store.raise_alert(alert("m")),
        lambda: store.change_alert("m-alert", lambda a: a.after(AlertEvent.ACKNOWLEDGE)),
        lambda: store.request_retrain(Retrain(id="r", model="m", at=NOW)),
        lambda: store.write_incidents([IncidentChange(incident_of(NOW, model="m"), "opened")]),
    ):
        change()
        counted.append(store.revisions()["m"])
    assert counted == list(range(counted[0], counted[0] + 7))
    running_rollout(store, "m")  # asked for, and saved
    assert store.revisions() == {"m": counted[-1] + 2}
    store.remove_deployment("m")
    assert store.revisions() == {"m": counted[-1] + 3}


def test_what_is_written_again_is_no_change(store: Store) -> None:
    for _ in range(2):
        store.add_window(window("m", 0))
        store.raise_alert(alert("m"))
    assert store.revisions() == {"m": 2}


def test_changes_of_many_writers_are_all_counted(store: Store) -> None:
    with ThreadPoolExecutor(8) as writers:
        list(writers.map(lambda n: store.add_window(window("m", n)), range(40)))
    assert store.revisions() == {"m": 40}


def test_traffic_is_summed_over_versions_and_replicas(store: Store) -> None:
    for replica, version in (("a", 1), ("b", 1), ("b", 2)):
        store.put_ledger(replica, "m", version, served=5, acked=3, spooled=1, dropped={"quota": 1})
    assert store.traffic() == {"m": (15, 9, 3)}
    assert store.revisions() == {}


def test_what_roles_and_replicas_report_is_a_change(store: Store) -> None:
    failing = Degraded("monitor", NOW, "the lake is away", "m")
    store.put_degraded(failing)
    store.drop_degraded(failing)
    store.put_replica_statuses(ReplicaStatuses(deaths=1))
    store.put_loaded_versions("m", LoadedVersions(revision=1))
    assert store.revisions() == {"m": 3, "": 1}


def test_the_stamp_moves_with_each_change_and_with_traffic(store: Store) -> None:
    stamps = [store.stamp()]
    assert store.stamp() == stamps[0]
    for change in (
        lambda: store.add_window(window("m", 0)),
        lambda: store.put_ledger("a", "m", 1, served=5, acked=3, spooled=2, dropped={}),
        lambda: store.put_ledger("a", "m", 1, served=5, acked=4, spooled=1, dropped={}),
    ):
        change()
        stamps.append(store.stamp())
    assert len(set(stamps)) == 4


def test_records_of_a_time_range(store: Store) -> None:
    for number in range(5):
        store.add_window(window("m", number))
    store.add_window(window("other", 1))
    since, until = NOW - timedelta(hours=3), NOW
    found = store.between("windows", "m", since, until)
    assert [record["window_id"] for record in found] == ["m-w1", "m-w2", "m-w3"]
    assert len(store.between("windows", limit=3)) == 3


def test_alerts_that_are_closed_are_not_open(store: Store) -> None:
    store.raise_alert(alert("a"))
    store.raise_alert(alert("b"))
    store.change_alert("a-alert", lambda found: found.after(AlertEvent.CLOSE))
    assert [found.model for found in store.open_alerts()] == ["b"]


def test_what_the_monitor_keeps_of_one_model_and_of_all(store: Store) -> None:
    for name in ("m", "m2"):
        store.put_cursor(f"monitor/{name}", monitor_state(NOW))
    store.put_cursor("archiver", {})
    assert set(store.monitor_states()) == {"m", "m2"}
    assert set(store.monitor_states("m")) == {"m"}


def test_a_page_waits_for_no_writer(store: Store) -> None:
    """A read while another transaction holds SQLite's lock for writing."""
    store.add_window(window("m", 0))
    with store._begin() as c:
        c.execute(cursors.insert().values(name="held", body={}))
        assert len(store.between("windows", "m")) == 1
        assert store.revisions() == {"m": 1}


def test_the_reads_of_a_page_share_a_transaction(store: Store) -> None:
    store.add_window(window("m", 0))
    with store.reading():
        before = store.windows("m")
        with ThreadPoolExecutor(1) as others:
            others.submit(store.add_window, window("m", 1)).result()
        if store._engine.dialect.name == "sqlite":  # PostgreSQL looks anew for each statement
            assert store.windows("m") == before
    assert len(store.windows("m")) == 2


def test_what_is_counted_over_all_models(store: Store) -> None:
    names = list(fill(store))
    assert store.count_by_state("retrains") == {"running": 1}
    assert store.count_by_state("rollouts") == {"running": 1}
    assert store.count_incidents() == {("alert", "page"): 1}
    assert store.count_alerts(NOW - timedelta(hours=2)) == {"performance": 1}
    assert store.count_alerts(NOW) == {}
    assert store.count_waiting_notices() == 0
    newest = drift("watching", 0, "debt")
    store.add_finding(newest)
    store.add_finding(replace(newest, finding_id="larger", effect=0.5))
    store.add_finding(replace(newest, finding_id="other", effect=9.0, kind=CheckKind.QUALITY))
    store.add_finding(replace(newest, finding_id="gone", model="removed", effect=7.0))
    assert store.drift_effects() == {"watching": 0.5}
    assert "watching" in names


def test_a_reader_of_events_misses_none_of_many_writers(store: Store) -> None:
    def write(writer: int) -> None:
        for n in range(10):
            names = sorted((f"m{writer}-{n}", f"m{(writer + 1) % 4}-{n}x"))
            changes = [
                IncidentChange(incident_of(NOW, id=name, model=name), "opened") for name in names
            ]
            assert len(store.write_incidents(changes)) == 2

    seen: list[int] = []
    with ThreadPoolExecutor(4) as writers:
        under_way = [writers.submit(write, writer) for writer in range(4)]
        ends = False
        while not ends:
            ends = all(future.done() for future in under_way)
            seen += [e["number"] for e in store.loop_events_after(seen[-1] if seen else 0)]
        for future in under_way:
            future.result()
    assert seen == [e["number"] for e in store.loop_events_after(0)]
    assert len(seen) == 80


def test_progress_of_a_retrain_is_no_event_and_its_states_are(store: Store) -> None:
    store.request_retrain(Retrain(id="r", model="m", at=NOW))
    store.request_retrain(Retrain(id="r", model="m", at=NOW))
    store.change_retrain("r", lambda r: r.after(RetrainEvent.START))
    store.change_retrain("r", lambda r: replace(r, progress=Stage("train", 0.5, "")))
    store.change_retrain("r", lambda r: r.after(RetrainEvent.CANCEL))
    events = store.loop_events_after(0, "m")
    assert [e["state"] for e in events] == ["requested", "running", "cancelled"]
    assert store.newest_loop_event() == events[-1]["number"]
    assert store.loop_events_after(events[0]["number"], limit=1) == events[1:2]
    assert store.loop_events_after(0, "other") == []
