"""The files of a version on their way through roles that share a bucket and databases, and no
folder: each role's state directory is its own."""

import io
import json
import tarfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from onnx import TensorProto, helper
from s3_server import environment, s3_server
from s3_server import store as bucket

from driftloop_artifacts import open_artifacts
from driftloop_artifacts.garbage import delete, find_garbage
from driftloop_contracts.errors import NotFound, RetryLater
from driftloop_contracts.model import Deployment
from driftloop_gateway.intake import take_in
from driftloop_lake.delta_lake import open_lake
from driftloop_onnx import OnnxModel
from driftloop_registry.mlflow_registry import open_registry
from driftloop_retrain.job.trainer import TrainingContext
from driftloop_retrain.record.lineage import lineage_document
from driftloop_settings import Settings
from driftloop_store import Store, open_store

pytestmark = [pytest.mark.integration, pytest.mark.cluster]
NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
Machine = Callable[[str], Settings]


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with s3_server() as endpoint:
        bucket(endpoint).create_dir("artifacts")
        yield endpoint


@pytest.fixture
def machine(endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """The settings of a role's machine. The databases are the only files in common."""
    for name, value in environment(endpoint).items():
        monkeypatch.setenv(name, value)
    databases = tmp_path / "databases"
    databases.mkdir()

    def settings(role: str) -> Settings:
        return Settings(
            state_dir=tmp_path / role,
            store={"url": f"sqlite:///{databases / 'store.db'}"},
            registry={
                "uri": f"sqlite:///{databases / 'mlflow.db'}",
                "artifacts": f"s3://artifacts/{tmp_path.name}",
            },
        )

    return settings


@pytest.fixture
def store(machine: Machine) -> Iterator[Store]:
    with closing(open_store(machine("gateway").store_url)) as opened:
        yield opened


def archive() -> io.BytesIO:
    """A model that answers what it is asked, with a reference."""
    tensors = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [None, 1]) for n in "xy"]
    node = helper.make_node("Identity", ["x"], ["y"])
    graph = helper.make_graph([node], "same", tensors[:1], tensors[1:])
    opset = [helper.make_opsetid("", 17)]
    reference = io.BytesIO()
    pq.write_table(pa.table({"x": pa.array([1.0, 2.0], pa.float32())}), reference)
    files = {
        "model.json": json.dumps({"name": "m"}).encode(),
        "model.onnx": helper.make_model(
            graph, opset_imports=opset, ir_version=9
        ).SerializeToString(),
        "reference.parquet": reference.getvalue(),
    }
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    buffer.seek(0)
    return buffer


@pytest.fixture
def deployed(machine: Machine, store: Store) -> Deployment:
    gateway = machine("gateway")
    registry = open_registry(gateway)
    take_in(archive(), store, registry, NOW, at_once=False, settings=gateway)
    return store.require_deployment("m")


def test_each_role_gets_the_files_of_a_version(
    machine: Machine, deployed: Deployment, tmp_path: Path
) -> None:
    (served,) = deployed.versions
    assert served.path.startswith("sha256:")
    with open_artifacts(machine("serving")).use(served.path) as folder:
        assert folder.is_relative_to(tmp_path / "serving")
        (answer,) = OnnxModel(folder).run({"x": np.ones((1, 1), np.float32)}).values()
        assert answer.tolist() == [[1.0]]
    with open_artifacts(machine("monitor")).use(served.path) as folder:
        assert (folder / "reference.parquet").is_file()
    retrain = machine("retrain")
    with ExitStack() as held:
        context = TrainingContext(retrain, open_lake(retrain), open_registry(retrain), held)
        champion = context.at_hand(context.registry.version("m", 1).served)
        assert Path(champion.path).is_relative_to(retrain.state_dir)
    command = machine("command")
    files = open_artifacts(command).use
    document = lineage_document(open_registry(command), "m", 1, files)
    assert {*document["files"]} >= {"model.onnx", "reference.parquet"}


def test_a_machine_that_has_a_version_needs_no_bucket(
    machine: Machine, deployed: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when S3 is away: who restarts answers, and who is new asks again later."""
    (served,) = deployed.versions
    with open_artifacts(machine("serving")).use(served.path):
        pass
    with s3_server() as away:
        monkeypatch.setenv("AWS_ENDPOINT_URL", away)
    with open_artifacts(machine("serving")).use(served.path) as folder:
        assert OnnxModel(folder)
    with pytest.raises(RetryLater, match="cannot be used"):
        open_artifacts(machine("new")).use(served.path).__enter__()


def test_files_that_nothing_names_are_deleted_from_the_bucket(
    machine: Machine, deployed: Deployment, tmp_path: Path
) -> None:
    (served,) = deployed.versions
    gateway = machine("gateway")
    shared = open_artifacts(gateway)
    (tmp_path / "unnamed").mkdir()
    (tmp_path / "unnamed" / "file").write_text("nobody's")
    unnamed = shared.put(tmp_path / "unnamed")
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    found = find_garbage(shared.blobs, [served.path], lambda _: True, tomorrow)
    assert [len(found.folders), len(found.files)] == [1, 1]
    assert found.size > len("nobody's")
    delete(shared.blobs, found)
    assert find_garbage(shared.blobs, [served.path], lambda _: True, tomorrow).all == ()
    with open_artifacts(machine("serving")).use(served.path) as folder:
        assert OnnxModel(folder)
    with pytest.raises(NotFound):
        open_artifacts(machine("serving")).use(unnamed).__enter__()
