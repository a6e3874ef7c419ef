"""A version's lineage: the file `lineage.json` beside its graph, written before it is registered.

It names what `reproduce` needs to train the version again. A version that was deployed from outside
has none: of it only the files are known.
"""

import hashlib
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError, field_validator

from driftloop_contracts.errors import NotFound, Rejected
from driftloop_registry.port import Registry, VersionRecord
from driftloop_retrain.record.provenance import Code, Environment

FILE = "lineage.json"


class Part(BaseModel):
    model_config = ConfigDict(frozen=True)


class Data(Part):
    """predictions, labels: versions of the lake's tables. as_of: labels received later were not
    seen.
    offsets: by table and `topic:partition` the last one that those versions hold. change_at: the
    drift that rows are parted by."""

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
    """settings: those of `retrain`. spec, signature: of the model, as contracts write them;
    recipes: the families that competed; family, span, rounds: what won."""

    settings: dict[str, Any]
    spec: dict[str, Any]
    signature: dict[str, Any]
    recipes: tuple[str, ...]
    family: str
    span: str
    rounds: int


class Tuning(Part):
    """Of a language model's adapter. settings: those of `tuning`, with the model's own
    values. base_version: whose weights it goes with; base_fingerprint: which those are.
    start_version: the adapter that it was trained on from, if it was. dropped: answers that were
    left out, by reason; kinds: what was trained on, by where it came from."""

    settings: dict[str, Any]
    base_version: int
    base_fingerprint: str
    start_version: int | None
    dropped: dict[str, int]
    kinds: dict[str, int]

    @field_validator("settings", mode="before")
    @classmethod
    def _former_names(cls, settings: dict[str, Any]) -> dict[str, Any]:
        """Versions before the section `tuning` recorded its keys as `tune_…`."""
        return {name.removeprefix("tune_"): value for name, value in settings.items()}


class Lineage(Part):
    """metrics: on the hold-out. graph_sha256: see `graph_identity`; of an adapter, its weights'."""

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


def read_lineage(version: VersionRecord) -> Lineage | None:
    """None for a version that was deployed from outside, or made before versions had a lineage.
    Raises Rejected if the file cannot be read."""
    try:
        return Lineage.model_validate_json((Path(version.path) / FILE).read_text())
    except FileNotFoundError:
        return None
    except (OSError, ValidationError) as error:
        raise Rejected(
            f"the lineage of version {version.version} cannot be read: {error}"
        ) from None


def lineage_document(registry: Registry, model: str, number: int) -> dict[str, Any]:
    """Everything that is known of where a version comes from, for people and programs. Raises
    NotFound."""
    version = registry.version(model, number)
    found = read_lineage(version)
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
        "report": _report(version),
        "files": _files(Path(version.path)),
    }


def _left_out(found: Lineage) -> set[str]:
    return {"format", "model"} | ({"tuning"} if found.tuning is None else set())


def _ancestors(registry: Registry, version: VersionRecord) -> list[int]:
    """The version it was retrained from, that one's, and so on."""
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


def _report(version: VersionRecord) -> str | None:
    """The retrain's outcome with its trials and the gate's checks, beside the version's files."""
    path = Path(version.path).parent / "artifacts" / "outcome.json"
    return str(path) if path.is_file() else None


def _files(folder: Path) -> Mapping[str, str]:
    """SHA-256 by path in the folder."""
    found = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        with path.open("rb") as file:
            found[path.relative_to(folder).as_posix()] = hashlib.file_digest(
                file, "sha256"
            ).hexdigest()
    return found
