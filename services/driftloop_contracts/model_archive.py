"""Packs the tar archive that the control API accepts: a graph, or a folder of weights, with its
spec."""

import io
import json
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

from driftloop_contracts.errors import NotFound, Rejected
from driftloop_contracts.graph_files import check_graph_width, external_files
from driftloop_contracts.kind import LANGUAGE
from driftloop_contracts.language import ADAPTER_CONFIG, BASE_CONFIG, WEIGHTS_SUFFIXES

Spec = dict[str, Any]
SPEC = "model.yaml"
"""In a folder that `driftloop train` or `driftloop_export` wrote."""


def pack(archive: BinaryIO, path: Path, said: Mapping[str, Any]) -> None:
    """Write the archive for a MODEL.yaml or its folder, a bare .onnx file or a folder of weights.
    `said`: entries of the spec that replace those of MODEL.yaml, such as the name. Raises NotFound
    and Rejected."""
    if (path / SPEC).is_file():
        path /= SPEC
    if path.is_dir():
        spec, files = _folder({"runtime": LANGUAGE.runtime}, path)
    elif not path.is_file():
        raise NotFound(f"there is no file {path}")
    elif path.suffix in (".yaml", ".yml"):
        spec, files = _from_yaml(path)
    else:
        spec, files = {}, _graph(path)
    spec |= said
    if "name" not in spec:
        raise Rejected("give the model a name: `--name NAME`, or deploy(path, name=…) in Python")
    _write(archive, spec, files)


def _from_yaml(path: Path) -> tuple[Spec, Mapping[str, Path]]:
    try:
        import yaml
    except ImportError:  # the client is light
        raise Rejected(f"{path.name} is read by PyYAML: pip install pyyaml") from None
    try:
        spec = yaml.safe_load(path.read_text())
    except yaml.YAMLError as error:
        raise Rejected(f"{path} is not valid YAML: {error}") from None
    if not isinstance(spec, dict) or "model" not in spec:
        raise Rejected(f"{path} must contain at least `name` and `model`")
    model = str(spec.pop("model"))
    if spec.get("runtime") == LANGUAGE.runtime:
        if "://" in model:
            return _language({**spec, "model_uri": model}), {}
        return _folder(spec, path.parent / model)
    reference = spec.pop("reference", None)
    files = {"reference.parquet": path.parent / reference} if reference else {}
    return spec, files | _graph(path.parent / model)


def _graph(graph: Path) -> dict[str, Path]:
    """Return the graph under its name in a version, and the files that it references, by their
    relative paths."""
    if not graph.is_file():
        raise NotFound(f"there is no file {graph}")
    check_graph_width(graph)
    return {"model.onnx": graph, **external_files(graph)}


def _folder(spec: Spec, folder: Path) -> tuple[Spec, Mapping[str, Path]]:
    """Return the files of a Hugging Face folder that serving needs."""
    if not folder.is_dir():
        raise NotFound(f"there is no folder {folder}")
    if not any((folder / name).is_file() for name in (BASE_CONFIG, ADAPTER_CONFIG)):
        raise Rejected(
            f"{folder} contains neither {BASE_CONFIG} (a model) nor {ADAPTER_CONFIG} (an adapter)"
        )
    if not any(folder.glob("*.safetensors")):
        raise Rejected(
            f"{folder} contains no *.safetensors; convert the weights, since pickles are refused"
        )
    files = {
        f"weights/{file.name}": file
        for file in sorted(folder.iterdir())
        if file.is_file() and file.name.endswith(WEIGHTS_SUFFIXES)
    }
    return _language(spec), files


def _language(spec: Spec) -> Spec:
    """Set the defaults of a language model: its text is judged, by ratings."""
    return {"task": "generation", "output": "text", **spec}


def _write(archive: BinaryIO, spec: Spec, files: Mapping[str, Path]) -> None:
    with tarfile.open(fileobj=archive, mode="w") as tar:
        encoded = json.dumps(spec).encode()
        info = tarfile.TarInfo("model.json")
        info.size = len(encoded)
        tar.addfile(info, io.BytesIO(encoded))
        for target, file in files.items():
            if not file.is_file():
                raise NotFound(f"there is no file {file}")
            tar.add(file.resolve(), target)
