"""Two monitors on two machines: a bucket, a store and a lake in common, and no folder."""

import json
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from monitored_world import MemoryLake, deployment, rows
from s3_server import environment, s3_server
from s3_server import store as bucket

from driftloop_artifacts import open_artifacts
from driftloop_monitoring.watch.worker import FindingsTopic, Monitor
from driftloop_settings import Settings
from driftloop_store import Store, open_store
from driftloop_store.shares import Shares

pytestmark = [pytest.mark.integration, pytest.mark.cluster]
CALM = rows(0, 8_000)
WORSE = rows(8_000, 6_000, error=0.2)
GONE_S = -1.0
"""The leases of a machine that is away have ended by the time that another one asks."""


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with s3_server() as endpoint:
        bucket(endpoint).create_dir("artifacts")
        yield endpoint


@pytest.fixture(autouse=True)
def _reached(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in environment(endpoint).items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with closing(open_store(f"sqlite:///{tmp_path / 'store.db'}")) as opened:
        yield opened


class Topic(FindingsTopic):
    """Both machines send to the same one."""

    def __init__(self, settings: Settings, sent: list[Mapping[str, Any]]) -> None:
        super().__init__(settings)
        self._sent = sent

    def send(self, findings: tuple[Mapping[str, Any], ...]) -> bool:
        self._sent.extend(json.loads(json.dumps(f)) for f in findings)
        return True


class Machines:
    def __init__(self, folder: Path, store: Store) -> None:
        self.folder, self.store = folder, store
        self.lake = MemoryLake()
        self.sent: list[Mapping[str, Any]] = []

    def settings(self, name: str) -> Settings:
        return Settings(
            state_dir=self.folder / name,
            registry={"artifacts": f"s3://artifacts/{self.folder.name}"},
            monitoring={"window_least_seconds": 0.0},
        )

    def monitor(self, name: str, lasts_s: float = 60.0) -> Monitor:
        settings = self.settings(name)
        shares = Shares(self.store, "monitor", name, patience_s=60.0, lasts_s=lasts_s)
        topic = Topic(settings, self.sent)
        return Monitor(settings, self.store, self.lake, topic, shares=shares)

    def deploy(self, *, reference: bool) -> None:
        """As the gateway does, on a machine whose files nobody else sees."""
        here = deployment(self.folder / "gateway", reference)
        (version,) = here.versions
        path = open_artifacts(self.settings("gateway")).put(Path(version.path))
        self.store.put_deployment(replace(here, versions=(replace(version, path=path),)))


@pytest.fixture
def machines(tmp_path: Path, store: Store) -> Machines:
    return Machines(tmp_path, store)


def step(monitor: Monitor, lake: MemoryLake, *tables: pa.Table) -> None:
    lake.put(*tables)
    newest = tables[-1]["predicted_at"][-1].as_py()
    monitor.step(newest + timedelta(minutes=1))


def test_another_machine_goes_on_and_nothing_is_judged_twice(machines: Machines) -> None:
    machines.deploy(reference=True)
    first, second = machines.monitor("a", GONE_S), machines.monitor("b")
    step(first, machines.lake, CALM)
    judged = machines.store.windows()
    assert len(judged) == 4
    step(second, machines.lake, CALM, WORSE)  # the first one's lease has ended
    step(first, machines.lake, CALM, WORSE)
    windows = machines.store.windows()
    assert len([w for w in windows if w["kind"] == "count"]) == 7  # of 14,000 rows in all
    assert len({w["window_id"] for w in windows}) == len(windows) == 8  # one is of the alert
    assert len(machines.store.alerts()) == len(machines.store.retrains()) == 1
    assert [f["kind"] for f in machines.sent] == ["performance"]
    for monitor in (first, second):
        monitor.close()


def test_a_live_reference_is_found_by_another_machine(machines: Machines) -> None:
    machines.deploy(reference=False)
    first, second = machines.monitor("a", GONE_S), machines.monitor("b")
    step(first, machines.lake, CALM)
    step(second, machines.lake, CALM, WORSE)
    (file,) = (machines.folder / "b" / "monitor").iterdir()
    assert file.read_bytes() == (machines.folder / "a" / "monitor" / file.name).read_bytes()
    for monitor in (first, second):
        monitor.close()
