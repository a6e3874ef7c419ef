"""`models:/NAME/VERSION` and `runs:/ID/path`: a model in MLflow as a folder for `deploy`.

ONNX is taken as it is. Models of other libraries are read in their own safe formats and exported,
with the rows that they were logged with.
"""

from pathlib import Path
from typing import Any

import yaml

from driftloop_cli.safe_formats import READERS, WAY_OUT
from driftloop_contracts.errors import Rejected
from driftloop_onnx import OnnxModel
from driftloop_registry.mlflow_models import MlflowModel, fetch

SPEC = "model.yaml"
LOGGED = Path("extra_files") / SPEC
"""Where `driftloop_export.log_model` leaves the spec."""


def folder_of(uri: str, name: str | None, scratch: Path) -> Path:
    """A folder with `model.yaml`. `name`: the model's; None: that in `models:/NAME/VERSION`.
    Raises Rejected and NotFound."""
    found = fetch(uri, scratch / "fetched")
    chosen = name or _name(uri)
    if "onnx" in found.flavors:
        return _of_graph(found, chosen)
    for flavor, read in READERS.items():
        if flavor in found.flavors:
            model = read(found.folder, found.flavors[flavor])
            return _exported(model, found, uri, chosen, scratch / "exported")
    forms = ", ".join(sorted(found.flavors)) or "none"
    raise Rejected(
        f"{uri} has no form that can be served without unpickling it (it has: {forms}); {WAY_OUT}"
    )


def _name(uri: str) -> str:
    if not uri.startswith("models:/"):
        raise Rejected(f"give the model a name: `driftloop deploy {uri} --name NAME`")
    return uri.removeprefix("models:/").lstrip("/").partition("/")[0].partition("@")[0]


def _of_graph(found: MlflowModel, name: str) -> Path:
    graph = found.folder / str(found.flavors["onnx"].get("data", "model.onnx"))
    logged = found.folder / LOGGED
    document: dict[str, Any] = yaml.safe_load(logged.read_text()) if logged.is_file() else {}
    if document.get("reference"):
        document["reference"] = str(LOGGED.parent / document["reference"])
    if not document:
        document = _task(graph)
    document |= {"name": name, "model": str(graph.relative_to(found.folder))}
    (found.folder / SPEC).write_text(yaml.safe_dump(document, sort_keys=False))
    return found.folder


def _task(graph: Path) -> dict[str, Any]:
    """Of a graph whose outputs are called as ours."""
    outputs = {tensor.name for tensor in OnnxModel(graph).signature.outputs}
    if "label" in outputs:
        return {"task": "classification", "output": "label"}
    return {"task": "regression", "output": "value"} if "value" in outputs else {}


def _exported(model: Any, found: MlflowModel, uri: str, name: str, folder: Path) -> Path:
    if found.example is None:
        raise Rejected(
            f"{uri} was logged without rows to compare its graph with; log it again with "
            f"input_example=frame, or {WAY_OUT}"
        )
    from driftloop_export import export

    return export(model, dict(found.example), name, output=folder).folder
