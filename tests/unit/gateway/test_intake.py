import io
import json
import tarfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from exporters import write_layout
from onnx import TensorProto, helper

from driftloop_contracts.errors import Rejected
from driftloop_contracts.model_archive import pack
from driftloop_gateway.intake import take_in
from driftloop_onnx import OnnxModel
from driftloop_registry.memory_registry import MemoryRegistry
from driftloop_settings import Settings
from driftloop_store import Store

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)


def graph(kind: int = TensorProto.FLOAT) -> bytes:
    node = helper.make_node("Identity", ["x"], ["y"])
    made = helper.make_graph(
        [node],
        "same",
        [helper.make_tensor_value_info("x", kind, [None, 1])],
        [helper.make_tensor_value_info("y", kind, [None, 1])],
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    return bytes(model.SerializeToString())


def archive(files: dict[str, bytes]) -> io.BytesIO:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    buffer.seek(0)
    return buffer


def model(spec: dict[str, Any] | None = None, onnx_file: bytes | None = None) -> io.BytesIO:
    return archive(
        {
            "model.json": json.dumps({"name": "m", **(spec or {})}).encode(),
            "model.onnx": graph() if onnx_file is None else onnx_file,
        }
    )


@pytest.fixture
def registry(tmp_path: Path) -> MemoryRegistry:
    return MemoryRegistry(tmp_path / "registry")


def test_a_first_version_serves_at_once(store: Store, registry: MemoryRegistry) -> None:
    answer = take_in(model(), store, registry, NOW, at_once=False, settings=Settings())
    assert answer == {"model": "m", "version": 1, "rollout": None}
    deployment = store.require_deployment("m")
    assert (deployment.split.stable, deployment.split.canary) == (1, None)
    assert registry.aliases("m") == {"champion": 1}
    assert (Path(deployment.versions[0].path) / "model.onnx").read_bytes() == graph()


def test_a_later_version_is_a_candidate(store: Store, registry: MemoryRegistry) -> None:
    take_in(model(), store, registry, NOW, at_once=False, settings=Settings())
    answer = take_in(model(), store, registry, NOW, at_once=False, settings=Settings())
    assert answer["version"] == 2
    (rollout,) = store.active_rollouts()
    assert rollout["id"] == answer["rollout"]
    assert rollout["candidate"]["version"] == 2
    assert store.require_deployment("m").split.stable == 1


def test_a_policy_holds_from_the_deploy_on(store: Store, registry: MemoryRegistry) -> None:
    first, second = ({"rollout": {"steps": [share]}} for share in (0.1, 0.2))
    for policy in (first, second):
        body = model({"policy": policy})
        take_in(body, store, registry, NOW, at_once=False, settings=Settings())
        assert store.require_deployment("m").model.policy == policy
    (deployment,) = store.deployments()
    assert (deployment.split.stable, len(store.active_rollouts())) == (1, 1)


def test_at_once_replaces_the_champion(store: Store, registry: MemoryRegistry) -> None:
    take_in(model(), store, registry, NOW, at_once=False, settings=Settings())
    take_in(model(), store, registry, NOW, at_once=True, settings=Settings())
    assert store.require_deployment("m").split.stable == 2
    assert store.active_rollouts() == []


@pytest.mark.parametrize(
    ("body", "names"),
    [
        (io.BytesIO(b"no archive"), "tar archive"),
        (archive({"model.json": b"{}"}), "name"),
        (archive({"../../etc/passwd": b"x"}), "only contain"),
        (archive({"model.json": b'{"name": "m"}'}), "model.onnx"),
        (archive({"model.json": b"[]", "model.onnx": graph()}), "object"),
        (model(onnx_file=b"not a graph"), "not a loadable ONNX model"),
        (model({"name": "../m"}), "model name"),
        (model({"colour": "blue"}), "colour"),
        (model({"task": "clustering", "output": "y"}), "clustering"),
        (model({"task": "regression"}), "output"),
        (model({"task": "regression", "output": "z"}), "'z'"),
        (model({"slices": ["city"]}), "city"),
        (model({"options": {"inputs": {"x": {"nan": "perhaps"}}}}), "perhaps"),
        (model({"options": {"onnx": {"thread": 2}}}), "did you mean onnx.threads"),
        (model({"options": {"onnx": {"providers": ["tensorrt"]}}}), "onnxruntime-gpu"),
        (model({"signature": {"inputs": [{"name": "x", "datatype": "INT64"}]}}), "INT64"),
        (model({"signature": {"inputs": [{"name": "x", "shape": [1, 1]}]}}), "shape"),
        (model({"signature": {"outputs": [{"name": "z"}]}}), "'z'"),
        (model({"policy": {"rollout": {"stepz": [1]}}}), "did you mean `policy.rollout.steps`"),
        (model({"policy": {"rollout": {"interval_s": 1}}}), "rollout.interval_s` is global"),
        (model({"policy": [1]}), "`policy` must be a mapping"),
        (model({"options": {"tune": {"rank": 8}}}), "`policy.tuning` now"),
    ],
)
def test_what_is_wrong_with_a_model_is_named_and_changes_nothing(
    store: Store, registry: MemoryRegistry, body: io.BytesIO, names: str
) -> None:
    with pytest.raises(Rejected, match=names):
        take_in(body, store, registry, NOW, at_once=False, settings=Settings())
    assert store.deployments() == []
    assert registry.versions("m") == []


def test_a_version_with_other_inputs_is_refused(store: Store, registry: MemoryRegistry) -> None:
    take_in(model(), store, registry, NOW, at_once=False, settings=Settings())
    with pytest.raises(Rejected, match="other inputs"):
        take_in(
            model(onnx_file=graph(TensorProto.DOUBLE)),
            store,
            registry,
            NOW,
            at_once=False,
            settings=Settings(),
        )
    assert [v.version for v in registry.versions("m")] == [1]


def test_an_archive_may_hold_only_what_the_graph_names(
    store: Store, registry: MemoryRegistry
) -> None:
    spec = json.dumps({"name": "m"}).encode()
    body = archive({"model.json": spec, "model.onnx": graph(), "weights/w.bin": b"w"})
    with pytest.raises(Rejected, match="it may only contain model"):
        take_in(body, store, registry, NOW, at_once=False, settings=Settings())


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE])
def test_an_archive_may_hold_no_links(store: Store, registry: MemoryRegistry, kind: bytes) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        info = tarfile.TarInfo("w.bin")
        info.type, info.linkname = kind, "/etc/passwd"
        tar.addfile(info)
    buffer.seek(0)
    with pytest.raises(Rejected, match="no links"):
        take_in(buffer, store, registry, NOW, at_once=False, settings=Settings())


def test_weights_in_sub_folders_are_registered_where_the_graph_names_them(
    store: Store, registry: MemoryRegistry, tmp_path: Path
) -> None:
    made = write_layout(tmp_path / "made", ("net.onnx.data", "a/b/w.bin"))
    body = io.BytesIO()
    pack(body, made, {"name": "m"})
    body.seek(0)
    take_in(body, store, registry, NOW, at_once=False, settings=Settings())
    folder = Path(store.require_deployment("m").versions[0].path)
    x = np.ones((1, 4), np.float32)
    assert OnnxModel(folder).run({"x": x})["y"].tolist() == (
        OnnxModel(made).run({"x": x})["y"].tolist()
    )
