"""The port of the registry. Promotions are serialised by the store, not here."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from driftloop_contracts.model import ServedVersion
from driftloop_contracts.signature import Signature

BASE_TAG = "base_version"
"""The tag of an adapter that names the version of its base model."""
Alias = Literal["champion", "challenger"]


@dataclass(frozen=True, slots=True)
class VersionRecord:
    """A registered version. `path`: the local folder with `model.onnx` (and its `.data` file), or
    with the weights of a language model; or its address, if machines share artifacts. `report`: the
    same of the artifacts that were registered with it; None if they are not kept."""

    model: str
    version: int
    path: str
    signature: Signature
    metrics: Mapping[str, float] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    report: str | None = None

    @property
    def base(self) -> int | None:
        """The version of the base model if this is an adapter; otherwise None."""
        number = self.tags.get(BASE_TAG)
        return None if number is None else int(number)

    @property
    def served(self) -> ServedVersion:
        """The version as replicas must hold it."""
        return ServedVersion(self.version, self.path, self.signature, self.base)


class Registry(Protocol):
    def register(
        self,
        model: str,
        folder: Path,
        signature: Signature,
        *,
        metrics: Mapping[str, float],
        params: Mapping[str, Any],
        tags: Mapping[str, str],
        artifacts: Path | None = None,
    ) -> VersionRecord:
        """Log a run with the metrics, parameters and artifacts, copy `folder` into the registry's
        storage and register it as the next integer version. `tags["retrain_id"]` makes this
        idempotent: an existing version with the same value is returned. Tags contain the data
        version, seed, environment, code version and parent version."""

    def version(self, model: str, version: int) -> VersionRecord:
        """Return a version. Raises NotFound."""

    def models(self) -> list[str]:
        """Return the names of all models that have versions."""

    def versions(self, model: str) -> list[VersionRecord]:
        """Return all versions, ascending; empty for an unknown model."""

    def move(self, record: VersionRecord, path: str, report: str | None) -> None:
        """Say that the version's files, and the artifacts that were registered with it, are at
        these addresses from now on. Raises NotFound."""

    def set_alias(self, model: str, alias: Alias, version: int | None) -> None:
        """Point the alias to a version; None removes it."""

    def aliases(self, model: str) -> dict[str, int]: ...
