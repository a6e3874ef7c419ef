"""What driftloop asks of a registry. Promotion is serialised by the store, not here."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from driftloop_contracts.signature import Signature

Alias = Literal["champion", "challenger"]


@dataclass(frozen=True, slots=True)
class VersionRecord:
    """A registered version. `path`: the local folder with `model.onnx` (and its `.data` file)."""

    model: str
    version: int
    path: str
    signature: Signature
    metrics: Mapping[str, float] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)


class Registry(Protocol):
    def register(
        self, model: str, folder: Path, signature: Signature, *, metrics: Mapping[str, float],
        params: Mapping[str, Any], tags: Mapping[str, str], artifacts: Path | None = None,
    ) -> VersionRecord:  # fmt: skip
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
