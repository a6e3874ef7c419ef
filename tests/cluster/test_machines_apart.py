"""The whole loop where no two roles share a folder, a user or a network address; then the same with
a broker, a node and the machines of roles killed."""

import asyncio
import os
import shutil
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from cluster_stack import WORKERS, ClusterStack, cluster_stack
from command_line import eventually
from machines import can_make_machines

from driftloop_demo.data_set import LABEL, MODEL, TIME, LiveRows, live_rows, loans, write_reference
from driftloop_demo.ending import play
from driftloop_demo.replay import Replay
from driftloop_demo.story import Story
from driftloop_demo.traffic import Traffic
from driftloop_store.cycle_health import PATIENCE_S

AWAY_S = float(os.environ.get("DRIFTLOOP_AWAY_S", "60"))
pytestmark = [
    pytest.mark.cluster,
    pytest.mark.timeout(900 + AWAY_S),
    pytest.mark.skipif(not can_make_machines(), reason="machines need root and Linux's namespaces"),
]
RATE, RATE_RETRAIN = 400.0, 100.0
LOOP_S = 600.0
BACK_S = 120.0
NODE_S = 300.0
"""Ray takes a minute to give up a node that does not close its connections, and places what it lost
there at first."""
SETTLE_S = 90.0
MORE = 3_000


@pytest.fixture(scope="module")
def cluster() -> Iterator[ClusterStack]:
    with cluster_stack() as stack:
        yield stack


@pytest.fixture(scope="module")
def rows(cluster: ClusterStack) -> LiveRows:
    """Version 1 of the demo's model serves on both workers."""
    operator = cluster.network.machines["operator"]
    table = loans()
    reference = operator.root / "tmp" / "reference.parquet"
    write_reference(table, reference)
    reference.chmod(0o644)
    trained = cluster.operator(
        "train", "/tmp/reference.parquet", "--name", MODEL, "--label", LABEL,
        "--time-column", TIME, "--drop", "id", "--output", "/tmp/first",
        "--family", "gradient-boosting",
    )  # fmt: skip
    cluster.operator("deploy", trained["spec"])
    return live_rows(table)


class Users:
    """Ask through the balancer and label what they were answered, until a look is satisfied."""

    def __init__(self, cluster: ClusterStack, rows: LiveRows) -> None:
        self.cluster = cluster
        self.traffic = Traffic(
            rows, cluster.inference, 7, lambda _: self.rate, Replay(len(rows.labels))
        )
        self.rate = RATE

    def until(self, look: Callable[[], bool], seconds: float) -> None:
        async def watch() -> None:
            deadline = time.monotonic() + seconds
            while not await asyncio.to_thread(look):
                assert time.monotonic() < deadline, self.cluster.logs()
                await asyncio.sleep(0.5)

        asyncio.run(play(self.traffic.run, watch()))


@pytest.fixture(scope="module")
def users(cluster: ClusterStack, rows: LiveRows) -> Users:
    return Users(cluster, rows)


def window_id(cluster: ClusterStack) -> str | None:
    """Of the newest window; None: there is none yet."""
    window = cluster.status()["models"][0]["window"]
    return str(window["window_id"]) if window else None


def counts(cluster: ClusterStack) -> Any:
    return cluster.status()["models"][0]["counts"]


def nothing_is_lost(cluster: ClusterStack, users: Users) -> None:
    """What was answered is in the lake, once, and so is each label."""
    traffic = users.traffic
    found = eventually(
        lambda: counts(cluster),
        lambda c: c["lake_rows"] >= traffic.answered and c["labels"] >= traffic.labelled,
        timeout_s=SETTLE_S,
    )
    assert (found["dropped"], found["duplicates"]) == (0, 0)


def running(cluster: ClusterStack) -> list[Any]:
    """Its replicas that answer."""
    roles = cluster.status()["roles"]
    return [r for r in roles if r["name"].startswith("replica:") and r["state"] == "running"]


def test_each_worker_answers_and_commands_reach_the_stack(
    cluster: ClusterStack, rows: LiveRows, users: Users
) -> None:
    assert cluster.operator("status")["models"][0]["loaded"] == [1]
    for worker in WORKERS:
        url = f"http://{cluster.network.machines[worker].address}:8000/v2/models/{MODEL}/infer"
        assert httpx.post(url, json=rows.request(0, 2), timeout=60.0).status_code == 200
        users.traffic.answered += 2
    # What is running is reported every few seconds.
    nodes = eventually(
        lambda: {replica["node"] for replica in running(cluster)}, lambda found: len(found) == 2
    )
    assert len(nodes) == 2


def test_the_loop_closes(cluster: ClusterStack, users: Users) -> None:
    """Drift, an alert, a retrain, a canary and a promotion."""
    begun = time.monotonic()
    story = Story(
        lambda *parts: print(*(p if isinstance(p, str) else p[0] for p in parts)),
        lambda: time.monotonic() - begun,
        lambda: users.traffic.sent,
    )

    def over() -> bool:
        story.tell(cluster.status())
        users.rate = RATE_RETRAIN if story.retraining else RATE
        return story.over

    users.traffic.replay.take(users.traffic.rows.drift_at - 4_000, new_version=False)
    users.until(over, LOOP_S)
    assert story.rollout is not None
    assert story.rollout["state"] == "promoted", story.rollout
    assert cluster.status()["models"][0]["champion"] == 2
    nothing_is_lost(cluster, users)


def test_a_killed_broker_is_not_missed(cluster: ClusterStack, users: Users) -> None:
    cluster.kafka.kill(1)
    wanted = users.traffic.answered + MORE
    users.until(lambda: users.traffic.answered >= wanted, BACK_S)
    nothing_is_lost(cluster, users)
    cluster.kafka.start(1)


def test_a_killed_node_loses_no_answered_prediction(cluster: ClusterStack, users: Users) -> None:
    """Its replica starts on the other one; another machine joins in its place."""
    lost, other = WORKERS
    cluster.network.machines[lost].kill()

    def moved() -> bool:
        replicas = running(cluster)
        return len(replicas) == 2 and len({r["node"] for r in replicas}) == 1

    users.until(moved, NODE_S)
    cluster.start(lost)
    assert cluster.ready(other)
    nothing_is_lost(cluster, users)


def test_machines_of_roles_are_replaced_by_empty_ones(cluster: ClusterStack, users: Users) -> None:
    """What a role needs to go on is in the store, Kafka, the lake or the bucket."""
    seen = window_id(cluster)
    roles = ("gateway", "archiver", "monitor", "rollout")
    for role in roles:
        cluster.network.machines[role].kill()
    wanted = users.traffic.answered + MORE
    users.until(lambda: users.traffic.answered >= wanted, BACK_S)
    for role in roles:
        cluster.start(role)
    eventually(lambda: _answers(cluster), bool, timeout_s=BACK_S)
    nothing_is_lost(cluster, users)
    users.until(lambda: window_id(cluster) != seen, BACK_S)
    nothing_is_lost(cluster, users)


def test_the_store_and_the_bucket_may_be_away(cluster: ClusterStack, users: Users) -> None:
    """PostgreSQL refuses, the bucket hangs: answers go on, and all of it is caught up with."""
    seen = window_id(cluster)
    begun, answered = time.monotonic(), users.traffic.answered
    with cluster.store_and_bucket_away():
        users.until(lambda: time.monotonic() - begun > AWAY_S, AWAY_S + BACK_S)
        assert users.traffic.answered - answered > RATE * AWAY_S / 4
    eventually(lambda: _answers(cluster), bool, timeout_s=BACK_S)
    users.until(lambda: window_id(cluster) != seen, BACK_S)
    nothing_is_lost(cluster, users)


@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")
def test_clocks_may_differ_by_minutes(cluster: ClusterStack, users: Users) -> None:
    """Windows are judged, no role is taken for dead, and nothing is lost or refused."""
    seen = window_id(cluster)
    ahead = {"gateway": 240, "archiver": -240, "monitor": 180, "rollout": -180}
    for role, seconds in ahead.items():
        cluster.network.machines[role].kill()
        cluster.start(role, seconds)
    eventually(lambda: _answers(cluster), bool, timeout_s=BACK_S)
    begun = time.monotonic()
    users.until(lambda: time.monotonic() - begun > PATIENCE_S + 10.0, BACK_S)
    users.until(lambda: window_id(cluster) != seen, BACK_S)
    nothing_is_lost(cluster, users)
    status = cluster.status()
    assert status["models"][0]["window"]["status"] == "judged", status["models"][0]["window"]
    assert not [found for found in status["degraded"] if "hangs" in found["reason"]]


def _answers(cluster: ClusterStack) -> bool:
    try:
        return bool(cluster.status())
    except httpx.HTTPError:
        return False
