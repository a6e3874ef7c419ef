"""Graphs as exporters lay them out: one file, or weights in other files that the graph names."""

import io
import os
import tarfile
import tempfile
from pathlib import Path

import numpy as np
import onnx
import onnx.external_data_helper as external
import pytest
from exporters import REAL_LAYOUTS, layouts, write_layout
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from driftloop_contracts.errors import NotFound, Rejected
from driftloop_contracts.graph_files import check_graph_width
from driftloop_contracts.model_archive import pack
from driftloop_contracts.onnx_file import width
from driftloop_contracts.signature import MAX_WIDTH
from driftloop_onnx import OnnxModel
from driftloop_registry.memory_registry import MemoryRegistry
from driftloop_retrain.record.graph_identity import graph_hash
from driftloop_retrain.record.lineage import lineage_document

X = np.arange(8, dtype=np.float32).reshape(2, 4)


def unpacked(graph: Path, folder: Path) -> Path:
    archive = io.BytesIO()
    pack(archive, graph, {"name": "m"})
    archive.seek(0)
    with tarfile.open(fileobj=archive) as tar:
        assert all(member.isreg() for member in tar)
        tar.extractall(folder, filter="data")
    return folder


@pytest.mark.parametrize("layout", REAL_LAYOUTS)
def test_the_layouts_of_exporters_arrive_and_compute_the_same(
    layout: tuple[str, ...], tmp_path: Path
) -> None:
    graph = write_layout(tmp_path / "made", layout)
    wanted = OnnxModel(graph).run({"x": X})["y"]
    folder = unpacked(graph, tmp_path / "arrived")
    np.testing.assert_array_equal(OnnxModel(folder).run({"x": X})["y"], wanted)


@settings(max_examples=25, deadline=None)
@given(layout=layouts())
def test_any_layout_inside_the_folder_arrives(
    layout: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory
) -> None:
    scratch = tmp_path_factory.mktemp("layout")
    graph = write_layout(scratch / "made", layout)
    folder = unpacked(graph, scratch / "arrived")
    np.testing.assert_array_equal(
        OnnxModel(folder).run({"x": X})["y"], OnnxModel(graph).run({"x": X})["y"]
    )


def test_what_lies_beside_a_graph_and_is_not_named_stays_there(tmp_path: Path) -> None:
    graph = write_layout(tmp_path, ("w.bin",))
    (tmp_path / "secret.txt").write_text("private")
    folder = unpacked(graph, tmp_path / "arrived")
    assert sorted(p.name for p in folder.iterdir()) == ["model.json", "model.onnx", "w.bin"]


def test_a_version_in_sub_folders_has_its_files_in_the_lineage(tmp_path: Path) -> None:
    graph = write_layout(tmp_path / "made", ("weights/a", "weights/b"))
    folder = unpacked(graph, tmp_path / "arrived")
    registry = MemoryRegistry(tmp_path / "registry")
    signature = OnnxModel(folder).signature
    version = registry.register("m", folder, signature, metrics={}, params={}, tags={})
    files = lineage_document(registry, "m", version.version)["files"]
    assert set(files) == {"model.json", "model.onnx", "weights/a", "weights/b"}
    assert graph_hash(Path(version.path)) == graph_hash(folder)


def link_to(kind: str, folder: Path) -> Path:
    """A graph whose weights do not lie in its folder as a file of their own."""
    graph = write_layout(folder / "model", ("data/w.bin",))
    weights, outside = folder / "model" / "data" / "w.bin", folder / "elsewhere"
    if kind == "symbolic":
        weights.rename(outside)
        weights.symlink_to(outside)
    elif kind == "folder":
        (folder / "model" / "data").rename(outside)
        (folder / "model" / "data").symlink_to(outside)
    elif kind == "hard":
        os.link(weights, outside)
    else:
        weights.rename(outside)
    return graph


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        ("symbolic", "'w.bin' is a symbolic link; replace it"),
        ("folder", "'data' is a symbolic link; replace it"),
        ("hard", "is a hard link"),
        ("missing", "has no such file"),
    ],
)
def test_weights_behind_a_link_are_refused(kind: str, sentence: str, tmp_path: Path) -> None:
    with pytest.raises((Rejected, NotFound), match=sentence):
        pack(io.BytesIO(), link_to(kind, tmp_path), {"name": "m"})


@pytest.mark.parametrize("location", ["../w", "a/../../w", "/etc/hostname", "", "model.onnx"])
def test_weights_outside_the_folder_are_refused(location: str, tmp_path: Path) -> None:
    tensor = numpy_helper.from_array(np.ones(4, np.float32), "w")
    external.set_external_data(tensor, location=location)
    tensor.ClearField("raw_data")
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "w"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, 4])],
        [tensor],
    )
    path = tmp_path / "net.onnx"
    path.write_bytes(helper.make_model(graph).SerializeToString())
    assert onnx.load(path, load_external_data=False).graph.initializer[0].external_data
    with pytest.raises(Rejected, match="the graph keeps weights in"):
        pack(io.BytesIO(), path, {"name": "m"})


def wide(folder: Path, inputs: int, weights: int = 0, outputs: int = 1) -> Path:
    """A graph of that many inputs, some more that have a value, and outputs."""

    def info(name: str) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, 1])

    names, defaults = ([f"{p}{i}" for i in range(n)] for p, n in (("x", inputs), ("w", weights)))
    graph = helper.make_graph(
        [helper.make_node("Identity", [names[0]], [f"y{i}"]) for i in range(outputs)],
        "g",
        [info(name) for name in (*names, *defaults)],
        [info(f"y{i}") for i in range(outputs)],
        [numpy_helper.from_array(np.ones((1, 1), np.float32), name) for name in defaults],
    )
    path = folder / "wide.onnx"
    path.write_bytes(helper.make_model(graph).SerializeToString())
    return path


def test_a_graph_that_is_too_wide_is_refused_before_anything_is_packed(tmp_path: Path) -> None:
    archive = io.BytesIO()
    with pytest.raises(Rejected, match="the model has 4,001 inputs and outputs"):
        pack(archive, wide(tmp_path, MAX_WIDTH - 1, outputs=2), {"name": "m"})
    assert archive.tell() == 0
    pack(archive, wide(tmp_path, MAX_WIDTH - 1, weights=100), {"name": "m"})


@settings(max_examples=25, deadline=None)
@given(inputs=st.integers(1, 9), weights=st.integers(0, 9), outputs=st.integers(1, 9))
def test_the_width_is_that_of_the_signature(
    inputs: int, weights: int, outputs: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    graph = wide(tmp_path_factory.mktemp("wide"), inputs, weights, outputs)
    assert width(graph.read_bytes()) == inputs + outputs
    assert len(OnnxModel(graph).signature.inputs) == inputs


@settings(max_examples=50, deadline=None)
@given(st.binary(max_size=64))
def test_what_is_no_graph_is_left_for_the_library_to_refuse(content: bytes) -> None:
    with tempfile.NamedTemporaryFile() as file:
        Path(file.name).write_bytes(content)
        check_graph_width(Path(file.name))
