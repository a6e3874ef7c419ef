"""The archive of a model for `deploy`: a graph or a folder with `model.yaml`."""

import io
import json
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from driftloop_contracts.errors import NotFound, Rejected
from driftloop_contracts.onnx_file import external_locations

SPEC, GRAPH, REFERENCE = "model.yaml", "model.onnx", "reference.parquet"


def packed(path: Path, spec: Mapping[str, Any]) -> bytes:
    """A tar archive with `model.json`, the graph, and the files that it names. `spec`: laid over
    what `model.yaml` says. Raises NotFound and Rejected."""
    document: dict[str, Any] = {}
    if path.is_dir():
        path /= SPEC
    if path.suffix in (".yaml", ".yml"):
        document, path = _read(path), path.parent
        graph = path / str(document.pop("model", GRAPH))
    else:
        graph = path
    reference = document.pop("reference", None)
    document |= spec
    if "name" not in document:
        raise Rejected("give the model a name: deploy(path, name=…)")
    files = {GRAPH: _file(graph)}
    if reference:
        files[REFERENCE] = _file(graph.parent / str(reference))
    for place in _external(graph):
        files[place] = _file(graph.parent / place)
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        encoded = json.dumps(document).encode()
        info = tarfile.TarInfo("model.json")
        info.size = len(encoded)
        tar.addfile(info, io.BytesIO(encoded))
        for name, file in files.items():
            tar.add(file.resolve(), name)
    return archive.getvalue()


def _read(path: Path) -> dict[str, Any]:
    try:
        import yaml
    except ImportError:
        raise Rejected("a model.yaml is read by PyYAML: pip install pyyaml") from None
    try:
        document = yaml.safe_load(_file(path).read_text())
    except yaml.YAMLError as error:
        raise Rejected(f"{path} is not valid YAML: {error}") from None
    if not isinstance(document, dict):
        raise Rejected(f"{path} must hold a mapping")
    return document


def _external(graph: Path) -> list[str]:
    try:
        places = external_locations(graph.read_bytes())
    except (ValueError, KeyError):
        raise Rejected(f"{graph.name} is not a loadable ONNX model") from None
    for place in places:
        if Path(place).is_absolute() or ".." in Path(place).parts:
            raise Rejected(f"the graph keeps weights in {place!r}, outside its own folder")
    return places


def _file(path: Path) -> Path:
    if not path.is_file():
        raise NotFound(f"there is no file {path}")
    return path
