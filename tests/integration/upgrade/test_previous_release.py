"""What is in a state directory of the previous release is read by this one."""

from pathlib import Path

import pytest
from previous_release import expected, unpack

from driftloop_lake.delta_lake import DeltaLake
from driftloop_lake.port import Pin
from driftloop_monitoring.state.monitor_state import MonitorState
from driftloop_registry.mlflow_registry import open_registry
from driftloop_rollout.machine import Rollout
from driftloop_settings import Settings
from driftloop_store import Store, open_store

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return Settings(state_dir=unpack(tmp_path_factory.mktemp("previous")))


@pytest.fixture(scope="module")
def store(settings: Settings) -> Store:
    return open_store(settings.store_url)


def test_the_deployment_is_read(store: Store) -> None:
    (deployment,) = store.deployments()
    assert (deployment.model.name, deployment.split.stable) == ("loans", expected()["champion"])
    assert [served.version for served in deployment.versions] == [1, 2, 3]
    assert all(Path(served.path).exists() for served in deployment.versions)


def test_alarms_are_read_as_alerts(store: Store) -> None:
    (alert,) = store.alerts()
    assert [alert.id] == expected()["alarms"]
    findings = {finding["finding_id"] for finding in store.findings()}
    assert findings
    assert set(alert.findings) <= findings


def test_windows_decisions_and_the_audit_are_read(store: Store) -> None:
    assert len(store.windows("loans")) == 12
    decisions = store.decisions("loans")
    assert len(decisions) == 5
    assert not any("alarm" in str(decision) for decision in decisions)
    assert len(store.audits()) == 3


def test_retrains_are_read_with_what_they_read_of_the_lake(
    store: Store, settings: Settings
) -> None:
    retrains = store.retrains()
    assert {r.id: str(r.state) for r in retrains} == expected()["retrains"]
    lake = DeltaLake(settings.lake_uri)
    for retrain in retrains:
        assert retrain.data is not None
        pin = Pin(retrain.data.predictions, retrain.data.labels)
        rows = lake.labelled("loans", pin)
        assert "predicted_at" in rows.schema.names
        assert rows.num_rows > 0


def test_rollouts_are_read(store: Store) -> None:
    rollouts = [Rollout.from_record(record) for record in store.rollouts()]
    assert {r.id: str(r.state) for r in rollouts} == expected()["rollouts"]
    assert sum(len(store.rollout_events(r.id)) for r in rollouts) == 7


def test_the_monitor_goes_on_from_its_state(store: Store) -> None:
    saved = store.cursor("monitor/loans")
    assert saved is not None
    assert MonitorState.from_dict(saved).version == expected()["champion"]


def test_the_lake_is_read_whole(settings: Settings) -> None:
    lake = DeltaLake(settings.lake_uri)
    pin = lake.pin("loans")
    assert pin is not None
    counts = lake.count("loans", pin)
    assert (counts.rows, counts.duplicates, counts.labels) == (5250, 0, 5250)
    rows = lake.labelled("loans", pin)
    assert rows.num_rows == expected()["in_lake"]
    times = rows.column("predicted_at").to_pylist()
    assert times == sorted(times)
    assert set(rows.column("prediction_id").to_pylist()) == set(expected()["ids"][:525])
    assert lake.labelled("loans", pin, newest=100).num_rows == 100


def test_the_registry_is_read(settings: Settings) -> None:
    registry = open_registry(settings)
    assert sorted(v.version for v in registry.versions("loans")) == [1, 2, 3]
    assert registry.aliases("loans") == {
        "champion": expected()["champion"],
        "challenger": expected()["challenger"],
    }
