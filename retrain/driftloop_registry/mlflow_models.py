"""Models of anybody's that lie in MLflow, fetched by their URI: files only, nothing is loaded."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from driftloop_contracts.errors import NotFound, Rejected

SCHEMES = ("models:/", "runs:/")
META = "MLmodel"
TEXT = "text"


@dataclass(frozen=True)
class MlflowModel:
    """`folder`: its files. `flavors`: what MLflow's own file says of each form that it has.
    `example`: the rows it was logged with, by column, if they are a table."""

    folder: Path
    flavors: Mapping[str, Mapping[str, Any]]
    example: Mapping[str, list[Any]] | None


def is_mlflow_uri(place: str) -> bool:
    """Whether it names a model in MLflow and not a file."""
    return place.startswith(SCHEMES)


def fetch(uri: str, folder: Path) -> MlflowModel:
    """Copy a model into `folder`, from the server that `MLFLOW_TRACKING_URI` names. Raises
    NotFound and Rejected."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    from mlflow.artifacts import download_artifacts
    from mlflow.exceptions import MlflowException

    try:
        found = Path(download_artifacts(artifact_uri=uri, dst_path=str(folder)))
    except MlflowException as error:
        raise NotFound(
            f"MLflow has no model {uri} ({str(error).splitlines()[0]}); MLFLOW_TRACKING_URI names "
            "the server that is asked"
        ) from None
    meta = found / META
    if not meta.is_file():
        raise Rejected(f"{uri} is not a model of MLflow: it has no file {META}")
    document = yaml.safe_load(meta.read_text())
    return MlflowModel(found, document.get("flavors", {}), _example(found, document))


def _example(folder: Path, document: Mapping[str, Any]) -> Mapping[str, list[Any]] | None:
    """Tables in the form `split`, as MLflow writes pandas frames; and texts, as the column TEXT."""
    place = (document.get("saved_input_example_info") or {}).get("artifact_path")
    if place is None or not (folder / place).is_file():
        return None
    found = json.loads((folder / place).read_text())
    if isinstance(found, list) and found and all(isinstance(text, str) for text in found):
        return {TEXT: found}
    if not isinstance(found, dict) or not {"columns", "data"} <= set(found):
        return None
    return {
        str(name): [row[number] for row in found["data"]]
        for number, name in enumerate(found["columns"])
    }
