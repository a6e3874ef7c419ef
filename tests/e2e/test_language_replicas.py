"""Two engines of one language model, whose weights lie in an object store, while clients ask all
the time."""

import os
import signal
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from itertools import count
from typing import Any

import httpx
import psutil
import pytest
import yaml
from command_line import FREE_PORTS, Driftloop, eventually
from pyarrow import fs
from s3_server import environment, s3_server, store
from tiny_llama import tiny_adapter, tiny_llama

pytestmark = [pytest.mark.language, pytest.mark.timeout(5400)]

LOAD_S = 2400.0
"""On a machine that is busy with others' work; a minute on two idle cores."""
CLIENTS = 4
OPTIONS = {"replicas": 2, "cpus": 0.1, "engine": {"max_model_len": 256, "max_num_seqs": 16}}


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A base and an adapter in a bucket, which the environment leads to."""
    folder = tmp_path_factory.mktemp("weights")
    tiny_adapter(folder / "adapter", tiny_llama(folder / "base"))
    with s3_server() as endpoint, pytest.MonkeyPatch.context() as patched:
        store(endpoint).create_dir("models")
        fs.copy_files(str(folder), "models/mine", destination_filesystem=store(endpoint))
        for name, value in environment(endpoint).items():
            patched.setenv(name, value)
        yield


@pytest.fixture(scope="module")
def stack(weights: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Driftloop]:
    driftloop = Driftloop(tmp_path_factory.mktemp("stack"))
    settings = [
        *FREE_PORTS,
        "lake.flush_seconds=0.5",
        "rollout.steps=[0.5, 1.0]",
        'llm.roots=["s3://models/mine"]',
    ]
    sets = [word for each in settings for word in ("--set", each)]
    driftloop("up", "--detach", "--timeout-s", "600", *sets, timeout=660)
    try:
        deploy(driftloop, "base", options=OPTIONS)
        eventually(lambda: engines(driftloop), lambda running: len(running) == 2, LOAD_S)
        yield driftloop
    finally:
        driftloop("down")


@pytest.fixture(scope="module")
def url(stack: Driftloop) -> str:
    return str(stack("status")["endpoints"]["inference"])


def deploy(driftloop: Driftloop, place: str, *, check: bool = True, **more: Any) -> Any:
    """A MODEL.yaml whose weights lie in the bucket."""
    file = driftloop.state_dir / "MODEL.yaml"
    spec = {"name": "tiny", "runtime": "vllm", "model": f"s3://models/mine/{place}", **more}
    file.write_text(yaml.safe_dump(spec))
    return driftloop("deploy", str(file), check=check, timeout=LOAD_S)


def engines(stack: Driftloop) -> dict[int, int]:
    """By the process of each engine's replica that answers, the process of its engine."""
    found = {}
    for role in stack("status")["roles"]:
        if not role["name"].startswith("replica:") or role["state"] != "running":
            continue
        with suppress(psutil.NoSuchProcess):
            for child in psutil.Process(role["pid"]).children():
                if child.name().startswith("VLLM::Engine"):
                    found[role["pid"]] = child.pid
    return found


def ask(url: str, conversation: str, model: str = "tiny", **more: Any) -> httpx.Response:
    body = {"model": model, "messages": [{"role": "user", "content": "hello"}], "max_tokens": 1}
    headers = {"x-routing-key": conversation}
    return httpx.post(f"{url}/v1/chat/completions", json=body | more, headers=headers, timeout=120)


def answered_by(stack: Driftloop, answers: list[httpx.Response]) -> list[str]:
    """The engine that kept each."""
    ids = [answer.json()["id"] for answer in answers]
    listed = ", ".join(f"'{each}'" for each in ids)
    select = f"SELECT prediction_id, replica FROM predictions WHERE prediction_id IN ({listed})"
    rows = eventually(
        lambda: stack("query", "tiny", select, check=False),
        lambda rows: isinstance(rows, list) and len(rows) >= len(ids),
    )
    assert len(rows) == len(ids)
    where = {row["prediction_id"]: row["replica"] for row in rows}
    return [where[each] for each in ids]


@contextmanager
def asking(url: str, *models: str) -> Iterator[list[httpx.Response]]:
    """Clients that ask for these models all the time, ever new conversations; what failed."""
    failed: list[httpx.Response] = []
    stop, numbers = threading.Event(), count()

    def go_on(model: str) -> int:
        answered = 0
        while not stop.is_set():
            answer = ask(url, f"load-{next(numbers)}", model)
            if answer.status_code == 200:
                answered += 1
            else:
                failed.append(answer)
        return answered

    with ThreadPoolExecutor(CLIENTS) as pool:
        running = [pool.submit(go_on, models[n % len(models)]) for n in range(CLIENTS)]
        try:
            yield failed
        finally:
            stop.set()
        assert all(client.result() > 0 for client in running)


@pytest.fixture(scope="module")
def canary(stack: Driftloop, url: str) -> Counter[str]:
    """An adapter is deployed under load; how often each engine answered a call for it from the
    first canary answer on."""
    with asking(url, "tiny") as failed:
        assert deploy(stack, "adapter")["rollout"]
        numbers = count()
        eventually(
            lambda: ask(url, f"first-{next(numbers)}").headers.get("x-model-version"),
            lambda version: version == "2",
            LOAD_S,
        )
        pinned = [ask(url, f"pinned-{n}", "tiny@2") for n in range(40)]
    assert [answer.text for answer in failed] == []
    assert {answer.status_code for answer in pinned} == {200}
    assert {answer.headers["x-model-version"] for answer in pinned} == {"2"}
    return Counter(answered_by(stack, pinned))


def test_weights_that_are_not_there_are_named(stack: Driftloop) -> None:
    missing = deploy(stack, "missing", check=False)
    assert "there is no file under s3://models/mine/missing" in missing["error"]
    outside = deploy(stack, "../other", check=False)
    assert "llm.roots" in outside["error"]


def test_conversations_are_shared_out_and_each_stays_with_one_engine(
    stack: Driftloop, url: str
) -> None:
    turns = [[ask(url, f"talk-{n}") for n in range(12)] for _ in range(2)]
    first, second = (answered_by(stack, answers) for answers in turns)
    assert first == second
    assert len(set(first)) == 2
    counted = f'driftloop_requests_total{{arm="stable",model="tiny",replica="{first[0]}"'
    eventually(lambda: httpx.get(f"{url}/metrics").text, lambda text: counted in text)


def test_an_adapter_is_with_all_engines_before_it_is_asked_and_costs_no_call(
    canary: Counter[str],
) -> None:
    assert len(canary) == 2


@pytest.mark.parametrize("killed", ["engine", "replica"])
def test_the_other_engine_answers_while_one_is_started_again(
    stack: Driftloop, url: str, canary: Counter[str], killed: str
) -> None:
    before = eventually(lambda: engines(stack), lambda running: len(running) == 2, LOAD_S)
    replica, engine = next(iter(before.items()))
    with asking(url, "tiny", "tiny@2") as failed:
        os.kill(engine if killed == "engine" else replica, signal.SIGKILL)
        eventually(
            lambda: engines(stack),
            lambda running: len(running) == 2 and replica not in running,
            LOAD_S,
        )
        pinned = [ask(url, f"again-{n}", "tiny@2") for n in range(40)]
    assert len(failed) <= CLIENTS, [answer.text for answer in failed]
    assert {(answer.status_code, "retry-after" in answer.headers) for answer in failed} <= {
        (503, True)
    }
    assert {answer.status_code for answer in pinned} == {200}
    assert len(set(answered_by(stack, pinned))) == 2
    eventually(lambda: psutil.pid_exists(engine), lambda there: not there)
