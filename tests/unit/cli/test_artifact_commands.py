"""What the commands for shared files take for named, and how they adopt a machine's folders."""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from alert_cases import performance_alert
from typer.testing import CliRunner

from driftloop_artifacts import Artifacts
from driftloop_artifacts.blobs import FolderBlobs
from driftloop_artifacts.local_cache import LocalCache
from driftloop_cli.artifact_commands import Named, adopted
from driftloop_cli.main import app
from driftloop_contracts.model import Deployment, ModelSpec, TrafficSplit
from driftloop_contracts.signature import Signature, TensorSpec
from driftloop_registry.memory_registry import MemoryRegistry
from driftloop_store import Store, open_store

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
TENSOR = TensorSpec("x", "FP32", (-1, 1))
SIGNATURE = Signature((TENSOR,), (TENSOR,))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with closing(open_store(f"sqlite:///{tmp_path / 'store.db'}")) as opened:
        yield opened


@pytest.fixture
def registry(tmp_path: Path) -> MemoryRegistry:
    """With two versions of `m` in folders."""
    made = MemoryRegistry(tmp_path / "registry")
    for content in ("one", "two"):
        folder = tmp_path / content
        folder.mkdir()
        (folder / "model.onnx").write_text(content)
        made.register("m", folder, SIGNATURE, metrics={}, params={}, tags={})
    return made


@pytest.fixture
def shared(tmp_path: Path) -> Artifacts:
    cache = LocalCache(tmp_path / "cache", 1 << 30)
    return Artifacts((FolderBlobs(tmp_path / "shared"), cache))


def deploy(store: Store, registry: MemoryRegistry) -> None:
    served = registry.version("m", 1).served
    store.put_deployment(Deployment(ModelSpec("m"), (served,), TrafficSplit(1)))


def test_folders_of_a_machine_become_addresses_that_others_can_fetch(
    store: Store, registry: MemoryRegistry, shared: Artifacts
) -> None:
    deploy(store, registry)
    assert adopted(store, registry, shared) == (["m 1", "m 2"], [])
    for record in registry.versions("m"):
        with shared.use(record.path) as folder:
            assert (folder / "model.onnx").is_file()
    (served,) = store.require_deployment("m").versions
    assert served.path == registry.version("m", 1).path
    revision = store.require_deployment("m").revision
    assert adopted(store, registry, shared) == ([], [])
    assert store.require_deployment("m").revision == revision, "nothing is reloaded again"


def test_a_model_with_a_rollout_and_a_folder_elsewhere_are_left(
    store: Store, registry: MemoryRegistry, shared: Artifacts, tmp_path: Path
) -> None:
    deploy(store, registry)
    other = registry.register("n", tmp_path / "one", SIGNATURE, metrics={}, params={}, tags={})
    registry.move(other, "/elsewhere", None)
    store.request_rollout("r", registry.version("m", 2).served, "m", NOW, "")
    moved, left = adopted(store, registry, shared)
    assert moved == []
    assert left == [
        "m 1: a rollout is active",
        "m 2: a rollout is active",
        "n 1: /elsewhere is not on this machine",
    ]


def test_what_any_record_names_is_named(store: Store, registry: MemoryRegistry) -> None:
    addresses = [f"sha256:{digit * 64}" for digit in "abcd"]
    registry.move(registry.version("m", 1), addresses[0], addresses[1])
    deploy(store, registry)
    former = replace(registry.version("m", 2).served, path=addresses[2])
    store.request_rollout("r", former, "m", NOW, "")
    alert = replace(performance_alert(NOW), report="/state/reports/alert-1.html")
    store.raise_alert(alert)
    store.put_cursor("retrain-work/r1", {"copy": "retrains/r1/new.tar"})
    named = Named(store, registry)
    assert named.addresses == set(addresses[:3])
    names = {
        "reports/alert-1.html": True,
        "reports/alert-2.html": False,
        "references/m-1.parquet": True,
        "references/m-9.parquet": False,
        "retrains/r1/new.tar": True,
        "retrains/r1/old.tar": False,
        "retrains/r2/x.tar": False,
        "of a later release": True,
    }
    assert {name: named.is_named(name) for name in names} == names


def test_without_a_place_the_commands_say_so(tmp_path: Path) -> None:
    for command in ("clean", "adopt"):
        words = ["artifacts", command, "--state-dir", str(tmp_path), "--json"]
        result = CliRunner().invoke(app, words)
        assert result.exit_code == 1
        assert "registry.artifacts" in result.stdout
