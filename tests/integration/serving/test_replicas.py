"""Real Ray Serve: what a change of the split and the death of a replica do to those who ask."""

import io
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import httpx
import psutil
import pyarrow as pa
import pytest
from serving_stack import Stack, eventually, running_stack, session, write_version
from steady_load import answered, steady_calls, steady_load

from driftloop_bus.memory_bus import MemoryBus
from driftloop_contracts.events import PREDICTIONS, TOPICS
from driftloop_contracts.model import TrafficSplit
from driftloop_serving.capture.shipper import Shipper
from driftloop_serving.cluster import ray_head

pytestmark = [pytest.mark.integration, pytest.mark.timeout(240)]


@pytest.fixture(scope="module")
def direct(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with running_stack(tmp_path_factory.mktemp("direct"), "serving.ingress=direct") as stack:
        yield stack


def test_versions_and_split_change_without_a_restart(direct: Stack, tmp_path: Path) -> None:
    (pid,) = direct.answering()
    broken = replace(write_version(tmp_path, 3), path=str(tmp_path / "nowhere"))
    versions = (
        direct.store.require_deployment("m").versions[0],
        write_version(tmp_path, 2),
        broken,
    )
    with httpx.Client() as client:
        direct.put(versions=versions, split=TrafficSplit(1, canary=2, weight=0.5))
        assert direct.loaded().versions == (1, 2)
        assert 3 in direct.loaded().failed
        arms = [direct.ask(client).headers["x-model-version"] for _ in range(60)]
        assert set(arms) == {"1", "2"}
        direct.put(split=TrafficSplit(2))
        answer = direct.ask(client)
        assert answer.json()["outputs"][0]["data"] == [2.0]
        assert answer.headers["x-model-version"] == "2"
        direct.put(versions=versions[:1], split=TrafficSplit(1))
        assert direct.ask(client).json()["outputs"][0]["data"] == [1.0]
    assert direct.answering() == [pid]


def test_a_replica_killed_under_load_loses_and_doubles_nothing_it_answered(direct: Stack) -> None:
    (victim,) = direct.answering()
    told: dict[str, int] = {}
    stop = threading.Event()

    def client(number: int) -> int:
        """Counts what it was not answered; a request that failed is not sent again."""
        failures = 0
        with httpx.Client(timeout=5.0) as http:
            while not stop.is_set():
                try:
                    answer = direct.ask(http, rows=1 + number)
                except httpx.HTTPError:
                    failures += 1
                    stop.wait(0.05)
                    continue
                answer.raise_for_status()
                told[answer.headers["x-prediction-id"]] = 1 + number
        return failures

    with ThreadPoolExecutor() as pool:
        clients = [pool.submit(client, number) for number in range(4)]
        try:
            eventually(lambda: len(told), lambda count: count > 200)
            os.kill(victim, signal.SIGKILL)
            eventually(direct.answering, lambda pids: pids and pids != [victim])
            before = len(told)
            eventually(lambda: len(told), lambda count: count > before + 200)
        finally:
            stop.set()
        assert sum(c.result() for c in clients) > 0

    bus = MemoryBus()
    bus.ensure_topics(TOPICS, partitions=1, retention_hours=1)
    shipper = Shipper(direct.settings.spool_dir, bus, direct.store, 1000)
    while shipper.step(5.0):
        pass
    shipper.write_ledger()
    consumer = bus.consumer()
    consumer.assign({(PREDICTIONS, 0): -1})
    seen: list[tuple[str, int]] = []
    while messages := consumer.poll(0.05):
        for message in messages:
            table = pa.ipc.open_stream(io.BytesIO(message.value)).read_all()
            ids, rows = table["prediction_id"].to_pylist(), table["row"].to_pylist()
            seen.extend(zip(ids, rows, strict=True))
    assert len(seen) == len(set(seen))
    assert {(i, n) for i, count in told.items() for n in range(count)} <= set(seen)
    ledger = direct.store.ledger("m")
    assert sum(e["acked"] for e in ledger) == sum(e["served"] for e in ledger) == len(seen)


def test_no_connection_is_refused_while_the_only_replica_is_replaced(direct: Stack) -> None:
    """At c=16. Lost is at most what was under way: one request for each client."""
    (victim,) = direct.answering()
    with steady_load(direct, keeping=8, opening=8) as loads, steady_calls(direct) as called:
        tallies = (*loads, called)
        answered(50, *tallies)
        os.kill(victim, signal.SIGKILL)
        eventually(direct.answering, lambda pids: pids and pids != [victim])
        answered(50, *tallies)
    lost = [sum(tally.failures.values()) for tally in tallies]
    assert all(few <= most for few, most in zip(lost, (8, 8, 2), strict=True)), tallies
    assert not {"ConnectionRefusedError", "TimeoutError"} & set().union(
        *(tally.failures for tally in loads)
    )


def test_a_removed_model_is_unknown_on_all_ports_once_its_removal_is_answered(
    direct: Stack, tmp_path: Path
) -> None:
    assert set(direct.statuses_just_after_a_removal(tmp_path)) == {404}


def test_nothing_listens_to_the_network(direct: Stack) -> None:
    open_to_all = [
        (process.name(), connection.laddr)
        for process in psutil.process_iter()
        if session(process.pid) == direct.roles["ray"].pid
        for connection in process.net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN
        and connection.laddr.ip not in ("127.0.0.1", "::1", "::ffff:127.0.0.1")
    ]
    assert open_to_all == []


CONNECT = """
import sys, ray
ray.init(sys.argv[1], logging_level=50, log_to_driver=False)
print("connected", file=sys.stderr)
"""


@pytest.mark.parametrize("mode", ["disabled", "token"])
def test_who_has_not_the_stacks_token_cannot_use_its_ray(direct: Stack, mode: str) -> None:
    """Else any process of the machine could run code as the stack's user."""
    said = {"RAY_AUTH_MODE": mode, "RAY_AUTH_TOKEN": "guessed"}
    environ = {**os.environ, **ray_head.RAY, **said}
    argv = [sys.executable, "-c", CONNECT, ray_head.address(direct.settings)]
    with subprocess.Popen(argv, env=environ, stderr=subprocess.PIPE, text=True) as asking:
        assert asking.stderr is not None
        outcomes = ("Unauthenticated", "connected")
        answer = next(line for line in asking.stderr if any(o in line for o in outcomes))
        asking.kill()  # Ray asks again, for minutes
    assert "InvalidAuthToken" in answer
