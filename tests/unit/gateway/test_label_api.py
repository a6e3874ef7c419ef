"""How labels arrive, over the control API and as `driftloop labels` asks it there."""

import json
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from fastapi import FastAPI
from fastapi.testclient import TestClient
from lake_records import (
    id_of_request,
    label_message,
    prediction_message,
    prediction_rows,
    time_of_request,
)
from typer.testing import CliRunner

from driftloop_cli.main import app as command
from driftloop_gateway.label_api import RESOURCES, TIMEOUT_S, label_api
from driftloop_http.http_errors import install_error_handlers
from driftloop_lake.views import QueryStopped, Resources, open_views
from driftloop_lake.writer import LakeWriter
from driftloop_monitoring.archive.bus_records import read_record
from driftloop_settings import Settings
from driftloop_settings.run_state import ProcessId, RunState, write_run_state
from driftloop_store import open_store

NOW = time_of_request(500)


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten rows of the model `loan`, one with a label that came when row 99 would have."""
    folder = tmp_path_factory.mktemp("state")
    received = time_of_request(99).isoformat()
    label = label_message(0, prediction_id=id_of_request(3), label=1, received_at=received)
    rows = prediction_message(prediction_rows(0, 9, rows=1), 0)
    LakeWriter(str(folder / "lake")).append([read_record(rows), read_record(label)])
    return folder


def api_of(state: Path, resources: Resources = RESOURCES, timeout_s: float = TIMEOUT_S) -> FastAPI:
    settings = Settings(state_dir=state)
    store = open_store(settings.store_url)
    app = FastAPI()
    install_error_handlers(app)
    app.include_router(label_api(settings, store, lambda: NOW, resources, timeout_s))
    return app


def test_labels_are_counted_up_to_a_time(state: Path) -> None:
    client = TestClient(api_of(state))
    found = client.get("/api/models/loan/labels").json()
    assert (found["model"], found["at"], found["keys"]) == ("loan", NOW.isoformat(), [])
    assert [(v["version"], v["predictions"], v["labelled"]) for v in found["versions"]] == [
        (1, 10, 1)
    ]
    early = time_of_request(50).isoformat()
    found = client.get("/api/models/loan/labels", params={"at": early}).json()
    assert (found["at"], found["versions"][0]["labelled"]) == (early, 0)


@pytest.mark.parametrize(
    ("path", "status", "said"),
    [
        ("other/labels", 404, "no prediction of 'other'"),
        ("a%20b/labels", 400, "model name"),
        ("loan/labels?at=tomorrow", 400, "ISO 8601"),
    ],
)
def test_wrong_requests_say_why(state: Path, path: str, status: int, said: str) -> None:
    answer = TestClient(api_of(state)).get(f"/api/models/{path}")
    assert (answer.status_code, said in answer.json()["error"]) == (status, True)


def test_a_lake_that_takes_too_long_is_left_to_the_command(state: Path) -> None:
    answer = TestClient(api_of(state, timeout_s=0.0)).get("/api/models/loan/labels")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "60")
    assert "driftloop labels" in answer.json()["error"]


def test_a_query_that_needs_more_memory_is_stopped(state: Path) -> None:
    views = open_views(str(state / "lake"), "loan", resources=Resources("8MiB", "0MiB"))
    with pytest.raises(QueryStopped, match="memory"):
        list(views.ask("SELECT count(*) FROM (SELECT DISTINCT range::text FROM range(3000000))"))


@pytest.fixture
def control(state: Path, request: pytest.FixtureRequest) -> Iterator[None]:
    """A control API of these routes, to which the state directory leads."""
    config = uvicorn.Config(api_of(state, timeout_s=request.param), port=0, log_level="warning")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    me = ProcessId.of(os.getpid())
    assert me is not None
    write_run_state(state, RunState(me, (), {"control": f"http://127.0.0.1:{port}"}, True))
    yield
    (state / "run" / "supervisor.json").unlink()
    server.should_exit = True
    thread.join()


def labels(state: Path, *words: str) -> Any:
    result = CliRunner().invoke(
        command, ["labels", "loan", "--state-dir", str(state), "--json", *words]
    )
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


@pytest.mark.parametrize("control", [TIMEOUT_S], indirect=True)
def test_the_command_asks_a_running_stack_unless_settings_are_given(
    state: Path, control: None
) -> None:
    asked = labels(state)
    assert asked["at"] == NOW.isoformat()
    early = time_of_request(50).isoformat()
    assert labels(state, "--at", early)["at"] == early
    read = labels(state, "--set", "serving.port=0")
    assert read["at"] != NOW.isoformat()
    assert [v["labelled"] for v in read["versions"]] == [v["labelled"] for v in asked["versions"]]


@pytest.mark.parametrize("control", [0.0], indirect=True)
def test_the_command_reads_a_large_lake_itself(state: Path, control: None) -> None:
    found = labels(state)
    assert (found["at"] != NOW.isoformat(), found["versions"][0]["predictions"]) == (True, 10)
