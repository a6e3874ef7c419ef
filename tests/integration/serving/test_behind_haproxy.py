"""Real Ray Serve behind its HAProxy: the same protocol, and a replica's death."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest
from serving_stack import Stack, eventually, running_stack

pytestmark = [pytest.mark.integration, pytest.mark.timeout(240)]


@pytest.fixture(scope="module")
def proxied(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with running_stack(tmp_path_factory.mktemp("proxied"), "serving.ingress=haproxy") as stack:
        yield stack


def test_behind_haproxy_the_same_protocol_answers(proxied: Stack) -> None:
    with httpx.Client() as client:
        answer = proxied.ask(client, rows=3, **{"x-prediction-id": "mine"})
        assert answer.json()["outputs"][0]["data"] == [1.0, 1.0, 1.0]
        assert answer.headers["x-prediction-id"] == "mine"
        assert answer.headers["x-model-version"] == "1"
        unknown = client.post(f"{proxied.url}/v2/models/nobody/infer", content=b"{}")
        assert (unknown.status_code, "nobody" in unknown.json()["error"]) == (404, True)
        encoded = client.get(f"{proxied.url}/v2/models/%6d")
        assert encoded.json()["name"] == "m"


def test_behind_haproxy_a_removed_model_is_unknown_once_its_removal_is_answered(
    proxied: Stack, tmp_path: Path
) -> None:
    assert set(proxied.statuses_just_after_a_removal(tmp_path)) == {404}


def test_behind_haproxy_requests_wait_until_a_killed_replica_is_replaced(proxied: Stack) -> None:
    (victim,) = proxied.answering()
    dying = psutil.Process(victim)
    os.kill(victim, signal.SIGKILL)
    # Until its sockets are closed it takes requests, which nobody may send twice.
    dying.wait(30)
    with httpx.Client(timeout=60.0) as client:
        assert [proxied.ask(client).status_code for _ in range(5)] == [200] * 5
    eventually(proxied.answering, lambda pids: pids and pids != [victim])
    (row,) = proxied.store.replica_statuses().replicas
    assert row.restarts == 1
