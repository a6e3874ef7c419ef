"""A model with replicas of its own is asked, watched and captured as any other."""

from pathlib import Path

import httpx
import pytest
from serving_stack import eventually, running_stack, write_version

from driftloop_contracts.model import Deployment, ModelSpec, TrafficSplit

pytestmark = [pytest.mark.integration, pytest.mark.timeout(240)]


def test_a_model_of_its_own_answers_through_the_same_port(tmp_path: Path) -> None:
    with running_stack(tmp_path, "serving.ingress=haproxy") as stack, httpx.Client() as client:
        shared = stack.answering()
        spec = ModelSpec("alone", options={"onnx": {"placement": "own", "cpus": 0.1}})
        version = write_version(tmp_path / "alone", 3)
        wanted = stack.store.put_deployment(Deployment(spec, (version,), TrafficSplit(3)))

        def revision() -> int:
            return stack.store.loaded_versions("alone").revision

        eventually(revision, lambda found: found == wanted.revision)
        ready = f"{stack.url}/v2/models/alone/ready"
        eventually(lambda: client.get(ready).status_code, lambda status: status == 200)
        assert len(stack.answering()) == len(shared) + 1
        answer = stack.ask(client, rows=2, model="alone", **{"x-prediction-id": "mine"})
        assert answer.json()["outputs"][0]["data"] == [3.0, 3.0]
        assert answer.headers["x-model-version"] == "3"
        assert answer.headers["x-prediction-id"] == "mine"
        wrong = client.post(f"{stack.url}/v2/models/alone/infer", content=b"{")
        assert (wrong.status_code, "JSON" in wrong.json()["error"]) == (400, True)
        missing = client.post(f"{stack.url}/v2/models/alone/versions/9/infer", content=b"{}")
        assert (missing.status_code, "alone" in missing.json()["error"]) == (404, True)
        folders = {path.name.split("-")[0] for path in stack.settings.spool_dir.iterdir()}
        assert folders == {"replica", "own"}
        assert stack.ask(client).headers["x-model-version"] == "1"
