"""One stack, seen from outside: what is refused, what is counted, what is shown, and what other
people's clients get."""

import json
import os
import re
import signal
import time
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import numpy as np
import onnx
import pandas as pd
import psutil
import pytest
import yaml
from client_suites import SUITES, ask_as, deploy_asked_models
from command_line import FREE_PORTS, Driftloop, eventually
from onnx import TensorProto, helper
from prometheus_server import prometheus
from sklearn.compose import make_column_transformer
from sklearn.ensemble import RandomForestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder
from sklearn.tree import DecisionTreeClassifier

from driftloop_client import Client, NotFound
from driftloop_export import export
from driftloop_settings.run_state import read_run_state

pytestmark = pytest.mark.e2e


def write_scaler(path: Path, factor: float = 2.0) -> Path:
    """A graph y = factor · x over one FP32 column."""
    node = helper.make_node("Mul", ["x", "factor"], ["y"])
    graph = helper.make_graph(
        [node],
        "scaler",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 1])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, 1])],
        [helper.make_tensor("factor", TensorProto.FLOAT, [1], np.float32([factor]))],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, path)
    return path


@pytest.fixture(scope="module")
def inference(stack: Driftloop, tmp_path_factory: pytest.TempPathFactory) -> str:
    stack(
        "deploy",
        str(write_scaler(tmp_path_factory.mktemp("model") / "s.onnx")),
        "--name",
        "doubler",
    )
    endpoint: str = stack("status")["endpoints"]["inference"]
    return endpoint


@pytest.fixture(scope="module")
def asked(stack: Driftloop, tmp_path_factory: pytest.TempPathFactory) -> Driftloop:
    """The stack with the models that the clients' suites ask."""
    deploy_asked_models(stack, tmp_path_factory.mktemp("asked") / "models")
    return stack


@pytest.mark.parametrize("suite", SUITES)
def test_a_client_gets_what_the_protocol_promises(asked: Driftloop, suite: str) -> None:
    ask_as(suite, asked)


def ask(inference: str, data: list[Any], model: str = "doubler", **changes: Any) -> httpx.Response:
    tensor = {"name": "x", "datatype": "FP32", "shape": [len(data), 1], "data": data, **changes}
    return httpx.post(f"{inference}/v2/models/{model}/infer", json={"inputs": [tensor]})


def test_an_answer_names_its_version_and_id(inference: str) -> None:
    answer = ask(inference, [1.0, 2.5])
    assert answer.json()["outputs"][0]["data"] == [2.0, 5.0]
    assert answer.headers["x-model-version"] == "1"
    assert answer.headers["x-prediction-id"]


@pytest.mark.parametrize(
    ("data", "changes", "status", "names"),
    [
        ([1.0], {"name": "z"}, 400, "x"),
        ([1.0], {"datatype": "INT64"}, 400, "x"),
        ([1.0], {"shape": [2, 1]}, 400, "x"),
        ([1.0], {"shape": [1, 2]}, 400, "x"),
        (["a"], {}, 400, "x"),
        ([], {}, 400, "x"),
        ([1.0], {"model": "nobody"}, 404, "nobody"),
    ],
)
def test_what_is_wrong_with_a_request_is_named(
    inference: str, data: list[Any], changes: dict[str, Any], status: int, names: str
) -> None:
    answer = ask(inference, data, **changes)
    assert answer.status_code == status
    assert names in answer.json()["error"]


def test_a_second_stack_at_the_same_ports_is_refused_and_starts_nothing(
    stack: Driftloop, inference: str, tmp_path: Path
) -> None:
    second = Driftloop(tmp_path / "second")
    at = ("--set", f"serving.port={urlsplit(inference).port}")
    taken_s = []
    for words in ((), ("--detach",)):
        began = time.monotonic()
        refused = second("up", *words, *at, check=False)["error"]
        taken_s.append(time.monotonic() - began)
        assert f"port {urlsplit(inference).port} " in refused
        assert f"process {supervisor(stack).pid} " in refused
    assert min(taken_s) < 3.0
    assert "no stack is running" in second("status", check=False)["error"]


def test_neither_a_proxy_nor_haproxy_runs_on_one_machine(stack: Driftloop, inference: str) -> None:
    words = [" ".join(p.cmdline()[:1]) for p in supervisor(stack).children(recursive=True)]
    assert any("ServeReplica" in word for word in words)
    assert not [word for word in words if "proxy" in word.lower()]


def supervisor(stack: Driftloop) -> psutil.Process:
    run = read_run_state(stack.state_dir)
    assert run is not None
    return psutil.Process(run.supervisor.pid)


@pytest.mark.parametrize("version", ["9", "latest"])
def test_an_unknown_version_is_not_found(inference: str, version: str) -> None:
    answer = httpx.post(f"{inference}/v2/models/doubler/versions/{version}/infer", content=b"{}")
    assert answer.status_code == 404
    assert "error" in answer.json()


def test_a_body_that_is_no_json_is_refused(inference: str) -> None:
    answer = httpx.post(f"{inference}/v2/models/doubler/infer", content=b"{")
    assert answer.status_code == 400
    assert "JSON" in answer.json()["error"]


def test_a_body_over_the_limit_is_too_large(inference: str) -> None:
    answer = httpx.post(f"{inference}/v2/models/doubler/infer", content=b" " * (17 << 20))
    assert answer.status_code == 413
    assert "error" in answer.json()


@pytest.mark.parametrize("port", ["inference", "control"])
def test_pages_of_a_named_origin_may_call_and_others_may_not(
    stack: Driftloop, inference: str, port: str
) -> None:
    endpoints = stack("status")["endpoints"]
    asked = {
        "access-control-request-method": "POST",
        "access-control-request-headers": "content-type",
    }
    label = {"prediction_id": "nobody-of-a-page", "label": 1}
    for origin, allowed in (("https://app.example", True), ("https://other.example", False)):
        url, page = f"{endpoints[port]}/feedback", {"origin": origin}
        answers = (
            httpx.options(url, headers=page | asked),
            httpx.post(url, json=label, headers=page),
        )
        for answer in answers:
            assert answer.is_success is allowed
            named = answer.headers.get("access-control-allow-origin")
            assert named == (origin if allowed else None)


def test_labels_of_unknown_ids_are_kept_and_counted(stack: Driftloop, inference: str) -> None:
    control = stack("status")["endpoints"]["control"]
    ask(inference, [1.0])
    for address in (inference, control):
        label = {"prediction_id": f"nobody-{address}", "label": 1}
        assert httpx.post(f"{address}/feedback", json=label).json() == {"accepted": 1}
    eventually(
        lambda: httpx.get(f"{control}/api/labels").json()["unmatched"], lambda found: found >= 2
    )


def test_every_answer_is_in_the_lake_once(stack: Driftloop, inference: str) -> None:
    for _ in range(20):
        ask(inference, [1.0, 2.0, 3.0]).raise_for_status()

    def counts() -> dict[str, int]:
        (model,) = [m for m in stack("status")["models"] if m["name"] == "doubler"]
        found: dict[str, int] = model["counts"]
        return found

    found = eventually(counts, lambda c: c["served"] >= 60 and c["lake_rows"] == c["served"])
    assert found["duplicates"] == found["dropped"] == 0


def test_a_file_that_is_no_model_is_refused(stack: Driftloop, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"not a graph")
    answer = stack("deploy", str(path), "--name", "broken", check=False)
    assert "ONNX" in answer["error"]
    assert "broken" not in {m["name"] for m in stack("status")["models"]}


@pytest.mark.parametrize(
    ("spec", "names"),
    [
        ({"signature": {"inputs": [{"name": "x", "datatype": "INT64"}]}}, "INT64"),
        ({"signature": {"inputs": [{"name": "z"}]}}, "'z'"),
        ({"task": "classification", "output": "label"}, "label"),
        ({"task": "classification"}, "output"),
        ({"colour": "blue"}, "colour"),
    ],
)
def test_a_spec_that_differs_from_its_graph_is_refused(
    stack: Driftloop, tmp_path: Path, spec: dict[str, Any], names: str
) -> None:
    write_scaler(tmp_path / "m.onnx")
    path = tmp_path / "model.yaml"
    path.write_text(json.dumps({"name": "other", "model": "m.onnx", **spec}))
    assert names in stack("deploy", str(path), check=False)["error"]


def test_a_later_version_starts_a_canary_and_can_be_aborted(
    stack: Driftloop, inference: str, tmp_path: Path
) -> None:
    answer = stack("deploy", str(write_scaler(tmp_path / "m.onnx", 3.0)), "--name", "doubler")
    assert answer["version"] == 2
    stack("rollout", "abort", "doubler", "--reason", "only a test")

    def newest() -> str:
        state: str = stack("rollout", "status", "doubler")[0]["state"]
        return state

    eventually(newest, lambda state: state == "aborted")
    assert ask(inference, [1.0]).headers["x-model-version"] == "1"


def test_an_exported_model_answers_as_its_library_through_the_client(
    stack: Driftloop, inference: str, tmp_path: Path
) -> None:
    frame = pd.DataFrame(
        {"income": np.linspace(0.1, 3.0, 300), "city": ["Ulm", "Bonn", None] * 100}
    )
    repaid = ((frame.income > 1.5) ^ (frame.city == "Bonn")).astype(int)
    steps = make_column_transformer(
        (OneHotEncoder(handle_unknown="ignore"), ["city"]), remainder="passthrough"
    )
    model = make_pipeline(steps, RandomForestClassifier(10, random_state=0)).fit(frame, repaid)
    export(model, frame, "bought", labels=repaid, output=tmp_path)
    stack("deploy", str(tmp_path))
    control = stack("status")["endpoints"]["control"]
    with Client(inference, control=control) as client:
        answer = client.predict("bought", frame)
        assert answer["label"].tolist() == model.predict(frame).tolist()
        np.testing.assert_allclose(
            answer["probabilities"], model.predict_proba(frame), rtol=0, atol=1e-6
        )
        assert client.feedback(answer.labelled(repaid))["accepted"] == 300
        assert "bought" in {m["name"] for m in client.status()["models"]}
        assert client.rollouts("bought") == []
        with pytest.raises(NotFound, match="nobody"):
            client.predict("nobody", frame)
    # 2.5 % of the labels are 1, and the spec names no objective
    rare, folder = (np.arange(1_200) % 40 == 0).astype(int), tmp_path / "rare"
    export(model, pd.concat([frame] * 4, ignore_index=True), "rare", labels=rare, output=folder)
    spec = yaml.safe_load((folder / "model.yaml").read_text())
    del spec["objective"]
    (folder / "model.yaml").write_text(yaml.safe_dump(spec))
    told = stack("deploy", str(folder))["judged_by"]
    assert told.startswith("judged by the balanced error: the class 1 is 2.50% of the rows")
    shown = stack("metrics", "rare")
    assert (shown["judged_by"], shown["outputs"]) == ("balanced_error", [])


def test_models_of_other_frameworks_answer_over_rest_as_their_libraries_do(
    stack: Driftloop, inference: str, tmp_path: Path
) -> None:
    random = np.random.default_rng(2)
    frame = pd.DataFrame(random.normal(size=(200, 3)).astype(np.float32), columns=["a", "b", "c"])
    labels = (frame.a + 0.5 * frame.b * frame.c > 0).astype(int)
    native = boosted(frame, labels)
    assert native
    for name, (model, expected) in native.items():
        export(model, frame, name, labels=labels, output=tmp_path / name)
        stack("deploy", str(tmp_path / name))
        tensors = [
            {"name": column, "datatype": "FP32", "shape": [200, 1], "data": frame[column].tolist()}
            for column in frame
        ]
        asked = {"inputs": tensors}
        answer = httpx.post(f"{inference}/v2/models/{name}/infer", json=asked).json()["outputs"]
        found = {output["name"]: output["data"] for output in answer}
        assert found["label"] == expected.argmax(axis=1).tolist(), name
        served = np.reshape(found["probabilities"], expected.shape)
        np.testing.assert_allclose(served, expected, rtol=0, atol=1e-5, err_msg=name)


def boosted(frame: pd.DataFrame, labels: "pd.Series[int]") -> dict[str, tuple[Any, np.ndarray]]:
    """Models of the frameworks that are installed, with their own probabilities."""
    known = {
        "lightgbm": ("LGBMClassifier", {"n_estimators": 10, "verbose": -1}),
        "xgboost": ("XGBClassifier", {"n_estimators": 10}),
        "catboost": (
            "CatBoostClassifier",
            {"iterations": 10, "verbose": False, "allow_writing_files": False},
        ),
    }
    found = {}
    for name, (kind, parameters) in known.items():
        if find_spec(name) is None:
            continue
        model = getattr(import_module(name), kind)(**parameters).fit(frame, labels)
        found[name] = model, model.predict_proba(frame)
    return found


def dashboards_and_rules() -> list[str]:
    """Every query of the files for Grafana and Prometheus. Where a rule compares, both results of
    the comparison are data."""
    deploy = Path(__file__).parents[2] / "deploy"
    queries = [
        target["expr"]
        for path in sorted((deploy / "grafana").glob("*.json"))
        for panel in json.loads(path.read_text())["panels"]
        for target in panel["targets"]
    ]
    (group,) = yaml.safe_load((deploy / "prometheus" / "alerts.yml").read_text())["groups"]
    for rule in group["rules"]:
        compared = re.sub(r" ([<>]) ", r" \1 bool ", rule["expr"])
        assert compared != rule["expr"]
        queries.append(compared)
    return [q.replace("$model", "measured").replace("$__rate_interval", "10s") for q in queries]


def test_every_query_of_dashboards_and_alert_rules_returns_data(
    stack: Driftloop, inference: str, tmp_path: Path
) -> None:
    frame = pd.DataFrame({"income": np.linspace(0.1, 3.0, 1_200)})
    repaid = (frame.income.to_numpy() * 997 % 3 > 1.5).astype(int)
    spec = tmp_path / "model.yaml"
    rollout = {"shadow_share": 0, "steps": [0.5]}
    policy = {"monitoring": QUICK["monitoring"], "rollout": rollout}
    control = stack("status")["endpoints"]["control"]
    targets = [urlsplit(address).netloc for address in (inference, control)]

    def deploy(depth: int) -> None:
        model = DecisionTreeClassifier(max_depth=depth, random_state=0).fit(frame, repaid)
        export(model, frame, "measured", labels=repaid, output=tmp_path)
        spec.write_text(yaml.safe_dump({**yaml.safe_load(spec.read_text()), "policy": policy}))
        stack("deploy", str(spec))

    with (
        prometheus(tmp_path / "prometheus", "driftloop", targets) as server,
        Client(inference, control=control) as client,
    ):

        def labelled(requests: int) -> None:
            for start in range(0, 2 * requests, 2):
                rows = slice(start, start + 2)
                answer = client.predict("measured", frame[rows])
                client.feedback(answer.labelled(repaid[rows]))

        def unanswered() -> list[str]:
            labelled(40)
            assert ask(inference, [1.0], "nobody").status_code == 404  # failures are shown, too
            return [query for query in dashboards_and_rules() if not server.values(query)]

        deploy(4)
        labelled(300)
        error = 'driftloop_model_error{model="measured"}'
        eventually(lambda: server.values(error), bool)
        deploy(5)
        eventually(unanswered, lambda found: not found, timeout_s=120)
        assert 0 < server.values(error)[0] < 0.5
        assert server.values('driftloop_model_rollout_share{model="measured"}') == [0.5]
        assert server.values("driftloop_alerts_promised_per_month") == [1.0]
    stack("rollout", "abort", "measured", "--reason", "only a test")


def test_the_control_api_describes_itself(stack: Driftloop) -> None:
    control = stack("status")["endpoints"]["control"]
    paths = httpx.get(f"{control}/api/openapi.json").json()["paths"]
    assert {"/api/status", "/api/rollouts", "/feedback"} <= set(paths)
    answer = httpx.get(f"{control}/api/models/nobody/windows")
    assert (answer.status_code, "nobody" in answer.json()["error"]) == (404, True)


def test_every_socket_of_a_stack_is_on_loopback(stack: Driftloop, inference: str) -> None:
    processes = [psutil.Process(role["pid"]) for role in stack("status")["roles"] if role["pid"]]
    everyone = {p for role in processes for p in (role, *role.children(recursive=True))}
    listening = {
        (c.laddr.ip, process.name())
        for process in everyone
        for c in process.net_connections("tcp")
        if c.status == psutil.CONN_LISTEN
    }
    assert len(listening) > 3
    assert {ip for ip, _ in listening} <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"}, listening


def test_doctor_finds_a_running_stack_healthy(stack: Driftloop) -> None:
    assert stack("doctor")["ok"]


REFERENCE_ROWS = 1_001
QUICK = {
    "monitoring": {
        "reference_rows": REFERENCE_ROWS,
        "window_rows": 200,
        "min_rows": 100,
        "window_least_seconds": 0,
    },
    "trigger": {"schedule": "* * * * * */5"},
    "rollout": {"steps": [0.3]},
}
STEADY = {
    "monitoring": {"reference_rows": REFERENCE_ROWS},
    "trigger": {"schedule": "0 3 1 1 *"},
    "rollout": {"steps": [0.07, 0.6]},
}


def deploy_with_policy(
    stack: Driftloop, folder: Path, name: str, policy: dict[str, Any], check: bool = True
) -> Any:
    write_scaler(folder / "model.onnx")
    spec = folder / f"{name}.yaml"
    spec.write_text(json.dumps({"name": name, "model": "model.onnx", "policy": policy}))
    return stack("deploy", str(spec), check=check)


def of(rows: list[dict[str, Any]], model: str) -> list[dict[str, Any]]:
    return [row for row in rows if row["model"] == model]


def test_two_models_have_schedules_windows_and_steps_of_their_own(
    stack: Driftloop, tmp_path: Path
) -> None:
    deploy_with_policy(stack, tmp_path, "quick", QUICK)
    deploy_with_policy(stack, tmp_path, "steady", STEADY)
    endpoints = stack("status")["endpoints"]
    for model in ("quick", "steady"):
        for _ in range(4):
            ask(endpoints["inference"], [1.0] * 500, model).raise_for_status()

    control = httpx.Client(base_url=endpoints["control"])

    def windows_under_traffic() -> list[dict[str, Any]]:
        ask(endpoints["inference"], [1.0], "quick").raise_for_status()  # else rows wait for more
        found: list[dict[str, Any]] = control.get("/api/models/quick/windows").json()
        return found

    windows = eventually(windows_under_traffic, bool)
    assert {window["rows"] for window in windows} == {200}
    assert control.get("/api/models/steady/windows").json() == []
    decisions = eventually(
        lambda: control.get("/api/decisions").json(), lambda found: bool(of(found, "quick"))
    )
    assert {decision["trigger"] for decision in of(decisions, "quick")} == {"schedule"}
    assert of(decisions, "steady") == []

    shown = {row["setting"]: row for row in stack("settings", "--model", "quick")}
    assert shown["monitoring.window_rows"]["value"] == 200
    assert shown["monitoring.window_rows"]["source"] == "policy"
    assert shown["monitoring.window_seconds"]["source"] == "default"

    changed = {**QUICK, "rollout": {"steps": [0.4]}}  # it holds without a restart
    deploy_with_policy(stack, tmp_path, "quick", changed)
    deploy_with_policy(stack, tmp_path, "steady", STEADY)
    ours = ("quick", "steady")  # other tests roll out models on this stack, too
    rollouts = eventually(
        lambda: [row for row in control.get("/api/rollouts").json() if row["model"] in ours],
        lambda found: len(found) == 2 and all(row.get("steps") for row in found),
    )
    steps = {row["model"]: row["steps"] for row in rollouts}
    assert steps == {"quick": [0.4, 1.0], "steady": [0.07, 0.6, 1.0]}

    refused = deploy_with_policy(stack, tmp_path, "quick", {"rollout": {"stepz": [1]}}, check=False)
    assert "policy.rollout.steps" in refused["error"]
    (model,) = [m for m in control.get("/api/models").json() if m["model"]["name"] == "quick"]
    assert model["model"]["policy"] == changed
    for rollout in rollouts:
        control.post(f"/api/rollouts/{rollout['id']}/abort", json={}).raise_for_status()


@pytest.mark.faults
def test_a_stack_goes_on_after_its_supervisor_was_killed(tmp_path: Path) -> None:
    """What a power cut leaves: the same model at the same address, and every answer in the lake."""
    driftloop = Driftloop(tmp_path / "state")
    ports = [word for port in FREE_PORTS for word in ("--set", port)]
    started = driftloop("up", "--detach", *ports)
    driftloop("deploy", str(write_scaler(tmp_path / "s.onnx")), "--name", "doubler")
    endpoint = started["endpoints"]["inference"]
    ask(endpoint, [1.0, 2.0]).raise_for_status()
    os.kill(started["pid"], signal.SIGKILL)
    try:
        again = driftloop("up", "--detach", *ports)
        assert again["endpoints"] == started["endpoints"]
        ask(endpoint, [3.0]).raise_for_status()

        def counts() -> dict[str, int]:
            found: dict[str, int] = driftloop("status")["models"][0]["counts"]
            return found

        eventually(counts, lambda c: c["served"] == c["lake_rows"] == c["acked"] == 3)
    finally:
        driftloop("down")
