"""A registry in memory, for tests and examples; it passes the same test suite as MLflow's."""

import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from driftloop_contracts.errors import NotFound
from driftloop_contracts.signature import Signature
from driftloop_registry.port import Alias, VersionRecord


class MemoryRegistry:
    """A `Registry` that copies the versions' files into `folder`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._versions: dict[str, list[VersionRecord]] = {}
        self._aliases: dict[str, dict[str, int]] = {}

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
        del params, artifacts
        known = self._versions.setdefault(model, [])
        for record in known:
            if "retrain_id" in tags and record.tags.get("retrain_id") == tags["retrain_id"]:
                return record
        number = len(known) + 1
        path = self._folder / model / str(number)
        shutil.copytree(folder, path)
        record = VersionRecord(model, number, str(path), signature, dict(metrics), dict(tags))
        known.append(record)
        return record

    def version(self, model: str, version: int) -> VersionRecord:
        for record in self.versions(model):
            if record.version == version:
                return record
        raise NotFound(f"the registry has no version {version} of {model!r}")

    def models(self) -> list[str]:
        return sorted(self._versions)

    def move(self, record: VersionRecord, path: str, report: str | None) -> None:
        moved = replace(record, path=path, report=report)
        known = self._versions[record.model]
        known[known.index(record)] = moved

    def versions(self, model: str) -> list[VersionRecord]:
        return list(self._versions.get(model, ()))

    def set_alias(self, model: str, alias: Alias, version: int | None) -> None:
        aliases = self._aliases.setdefault(model, {})
        if version is None:
            aliases.pop(alias, None)
        else:
            aliases[alias] = self.version(model, version).version

    def aliases(self, model: str) -> dict[str, int]:
        return dict(self._aliases.get(model, {}))
