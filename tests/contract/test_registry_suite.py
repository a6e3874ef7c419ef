"""What every registry does: the one in memory and MLflow's."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest

from driftloop_artifacts import IN_PLACE, Artifacts
from driftloop_artifacts.blobs import FolderBlobs
from driftloop_artifacts.local_cache import LocalCache
from driftloop_contracts.errors import NotFound
from driftloop_contracts.signature import Signature, TensorSpec
from driftloop_registry.memory_registry import MemoryRegistry
from driftloop_registry.mlflow_registry import MlflowRegistry
from driftloop_registry.port import Registry

SIGNATURE = Signature((TensorSpec("x", "FP32", (-1, 1)),), (TensorSpec("label", "INT64", (-1,)),))


@pytest.fixture
def artifacts(tmp_path: Path) -> Artifacts:
    shared = FolderBlobs(tmp_path / "shared")
    return Artifacts((shared, LocalCache(tmp_path / "cache", 1 << 30)))


@pytest.fixture(params=["memory", "mlflow", "mlflow with shared artifacts"])
def registry(request: pytest.FixtureRequest, tmp_path: Path, artifacts: Artifacts) -> Registry:
    if request.param == "memory":
        return MemoryRegistry(tmp_path / "registry")
    database = tmp_path / "mlflow.db"
    database.write_bytes(request.getfixturevalue("mlflow_database").read_bytes())
    own = IN_PLACE if request.param == "mlflow" else artifacts
    return MlflowRegistry(f"sqlite:///{database}", tmp_path / "registry", own)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A version's folder, with a graph whose weights lie beside it and in folders of it."""
    path = tmp_path / "made"
    for name, content in {
        "model.onnx": b"graph",
        "model.onnx.data": b"weights",
        "reference.parquet": b"rows",
        "weights/part-0.bin": b"more weights",
        "gewichte ü/of layer 1/w 1.bin": b"weights of one tensor",
    }.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)
    return path


def files(folder: Path) -> dict[str, bytes]:
    """All files below a folder, by their relative paths."""
    found = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


@pytest.fixture
def register(registry: Registry, folder: Path) -> Callable[..., int]:
    def one(model: str = "loans", **tags: str) -> int:
        record = registry.register(
            model,
            folder,
            SIGNATURE,
            metrics={"accuracy": 0.9},
            params={"seed": 1},
            tags=tags,
            artifacts=folder,
        )
        return record.version

    return one


def test_versions_count_from_one_for_each_model(
    registry: Registry, register: Callable[..., int]
) -> None:
    assert [register(), register(), register("other")] == [1, 2, 1]
    assert [record.version for record in registry.versions("loans")] == [1, 2]
    assert registry.versions("unknown") == []


def test_a_version_comes_back_whole(
    registry: Registry, register: Callable[..., int], folder: Path, artifacts: Artifacts
) -> None:
    register(data_version="lake 3")
    record = registry.version("loans", 1)
    assert record.signature == SIGNATURE
    assert record.metrics == {"accuracy": 0.9}
    assert record.tags == {"data_version": "lake 3"}
    assert Path(record.path) != folder
    assert len(files(folder)) == 5
    with artifacts.use(record.path) as kept:
        assert files(kept) == files(folder)
    if record.report is not None:
        with artifacts.use(record.report) as kept:
            assert files(kept) == files(folder)


def test_a_retrain_registers_once(registry: Registry, register: Callable[..., int]) -> None:
    assert register(retrain_id="a") == register(retrain_id="a") == 1
    assert register(retrain_id="b") == 2
    assert len(registry.versions("loans")) == 2


def test_an_alias_moves_and_goes(registry: Registry, register: Callable[..., int]) -> None:
    register(), register()
    registry.set_alias("loans", "champion", 1)
    registry.set_alias("loans", "challenger", 2)
    assert registry.aliases("loans") == {"champion": 1, "challenger": 2}
    registry.set_alias("loans", "champion", 2)
    registry.set_alias("loans", "challenger", None)
    registry.set_alias("loans", "challenger", None)
    assert registry.aliases("loans") == {"champion": 2}
    assert registry.aliases("unknown") == {}


def test_what_is_not_there_is_not_found(registry: Registry, register: Callable[..., int]) -> None:
    with pytest.raises(NotFound, match="version 1"):
        registry.version("loans", 1)
    register()
    with pytest.raises(NotFound, match="version 7"):
        registry.set_alias("loans", "champion", 7)


def test_a_wide_models_signature_comes_back_whole(registry: Registry, folder: Path) -> None:
    inputs = tuple(
        TensorSpec(f"column {n} {hashlib.sha512(str(n).encode()).hexdigest()}", "FP32", (-1, 1))
        for n in range(10_000)
    )
    wide = Signature(inputs, SIGNATURE.outputs)
    registry.register("wide", folder, wide, metrics={}, params={}, tags={"source": "deploy"})
    (record,) = registry.versions("wide")
    assert record.signature == wide
    assert record.tags == {"source": "deploy"}


def test_models_are_listed(registry: Registry, folder: Path) -> None:
    assert registry.models() == []
    for model in ("b", "a"):
        registry.register(model, folder, SIGNATURE, metrics={}, params={}, tags={})
    assert registry.models() == ["a", "b"]


def test_a_version_can_be_moved(registry: Registry, folder: Path) -> None:
    record = registry.register("m", folder, SIGNATURE, metrics={}, params={}, tags={"seed": "1"})
    place, report = f"sha256:{'a' * 64}", f"sha256:{'b' * 64}"
    registry.move(record, place, report)
    moved = registry.version("m", 1)
    assert (moved.path, moved.report, moved.tags) == (place, report, {"seed": "1"})
    assert registry.versions("m") == [moved]
