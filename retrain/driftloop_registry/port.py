"""What driftloop asks of a registry. Promotion is serialised by the store, not here."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from driftloop_contracts.model import ServedVersion
from driftloop_contracts.signature import Signature

BASE_TAG = "base_version"
"""The tag of an adapter with the number of the version whose weights it goes with."""
Alias = Literal["champion", "challenger"]


@dataclass(frozen=True, slots=True)
class VersionRecord:
    """A registered version. `path`: the local folder with `model.onnx` (and its `.data` file), or
    with the weights of a language model."""

    model: str
    version: int
    path: str
    signature: Signature
    metrics: Mapping[str, float] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)

    @property
    def base(self) -> int | None:
        """The version whose weights this one, an adapter, goes with."""
        number = self.tags.get(BASE_TAG)
        return None if number is None else int(number)

    @property
    def served(self) -> ServedVersion:
        """As replicas must hold it."""
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
        store and register it as the next integer version. `tags["retrain_id"]` makes it
        idempotent: a version with the same one is returned instead of made again. Tags carry the
        data version, seed, environment, code version, parent version."""

    def version(self, model: str, version: int) -> VersionRecord:
        """Raises NotFound."""

    def versions(self, model: str) -> list[VersionRecord]:
        """Ascending; empty for an unknown model."""

    def set_alias(self, model: str, alias: Alias, version: int | None) -> None:
        """Point the alias at a version; None removes it."""

    def aliases(self, model: str) -> dict[str, int]: ...
