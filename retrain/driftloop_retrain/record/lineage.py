"""A version's lineage: the file `lineage.json` beside its graph, written before it is registered.

It contains everything that `reproduce` needs to train the version again. A version that was not
trained by driftloop has none; only its files are known.
"""

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError, field_validator

from driftloop_artifacts import IN_PLACE, Files
from driftloop_artifacts.manifest import manifest_of
from driftloop_contracts.errors import NotFound, Rejected
from driftloop_registry.port import Registry, VersionRecord
from driftloop_retrain.record.provenance import Code, Environment

FILE = "lineage.json"


class Part(BaseModel):
    model_config = ConfigDict(frozen=True)


class Data(Part):
    """The training data.

    predictions, labels: versions of the lake's tables. as_of: labels received later were not used.
    offsets: the last offset in those versions, by table and `topic:partition`. change_at: the drift
    at which rows are split.
    """

    predictions: int
    labels: int
    as_of: datetime
    offsets: dict[str, dict[str, int]]
    change_at: datetime | None
    rows: int
    trained_rows: int
    holdout_rows: int
    fresh_rows: int


class Training(Part):
    """settings: those of `retrain`. spec, signature: of the model, as written by the contracts.
    recipes: those that competed. family, span, rounds: the winner's. trials: of the whole
    search, by which it is repeated; 0: none of searched parameters. trials_of: of a model with
    several labels, those of each label's search and of the one of all."""

    settings: dict[str, Any]
    spec: dict[str, Any]
    signature: dict[str, Any]
    recipes: tuple[str, ...]
    family: str
    span: str
    rounds: int
    trials: int = 0
    trials_of: dict[str, int] = {}


class Tuning(Part):
    """For a language model's adapter. settings: those of `tuning`, with the model's own values.
    base_version, base_fingerprint: the base and its weights. start_version: the adapter whose
    training was continued, if any. dropped: answers left out, by reason. kinds: training examples,
    by origin."""

    settings: dict[str, Any]
    base_version: int
    base_fingerprint: str
    start_version: int | None
    dropped: dict[str, int]
    kinds: dict[str, int]

    @field_validator("settings", mode="before")
    @classmethod
    def _former_names(cls, settings: dict[str, Any]) -> dict[str, Any]:
        """Rename keys: before the section `tuning` existed they were recorded as `tune_…`."""
        return {name.removeprefix("tune_"): value for name, value in settings.items()}


class Lineage(Part):
    """metrics: on the hold-out. graph_sha256: see `graph_identity`; for an adapter, the hash of its
    weights."""

    format: Literal[1] = 1
    model: str
    retrain_id: str
    trigger: str
    reason: str
    parent_version: int
    made_at: datetime
    data: Data
    code: Code
    seed: int
    training: Training
    environment: Environment
    metrics: dict[str, float]
    graph_sha256: str
    tuning: Tuning | None = None

    def write(self, folder: Path) -> None:
        (folder / FILE).write_text(self.model_dump_json(indent=1))


def read_lineage(version: VersionRecord, files: Files = IN_PLACE.use) -> Lineage | None:
    """Read the lineage; None for a version that was not trained by driftloop, or before lineages
    existed. Raises Rejected if the file cannot be read."""
    try:
        with files(version.path) as folder:
            return Lineage.model_validate_json((folder / FILE).read_text())
    except FileNotFoundError:
        return None
    except (OSError, ValidationError) as error:
        raise Rejected(
            f"the lineage of version {version.version} cannot be read: {error}"
        ) from None


def lineage_document(
    registry: Registry, model: str, number: int, files: Files = IN_PLACE.use
) -> dict[str, Any]:
    """Return everything that is known about the origin of a version. Raises NotFound."""
    version = registry.version(model, number)
    found = read_lineage(version, files)
    source = "retrain" if found or version.tags.get("source") == "retrain" else "deployed"
    aliases = registry.aliases(model)
    known = {} if found is None else found.model_dump(mode="json", exclude=_left_out(found))
    return {
        "model": model,
        "version": number,
        "source": source,
        "aliases": sorted(alias for alias, at in aliases.items() if at == number),
        "ancestors": _ancestors(registry, version),
        **(known or {"tags": dict(version.tags), "metrics": dict(version.metrics)}),
        "report": _report(version, files),
        "files": _files(version, files),
    }


def _left_out(found: Lineage) -> set[str]:
    return {"format", "model"} | ({"tuning"} if found.tuning is None else set())


def _ancestors(registry: Registry, version: VersionRecord) -> list[int]:
    """Return the version that it was retrained from, that one's parent, and so on."""
    found: list[int] = []
    while parent := version.tags.get("parent_version"):
        if int(parent) in found:
            break
        found.append(int(parent))
        try:
            version = registry.version(version.model, found[-1])
        except NotFound:
            break
    return found


def _report(version: VersionRecord, files: Files) -> str | None:
    """Return the path of the retrain's outcome, with its trials and the gate's checks."""
    if version.report is None:
        return None
    with files(version.report) as folder:
        path = folder / "outcome.json"
        return str(path) if path.is_file() else None


def _files(version: VersionRecord, files: Files) -> Mapping[str, str]:
    """Return SHA-256 by relative path."""
    with files(version.path) as folder:
        return {file.name: file.sha256 for file in manifest_of(folder).files}
