"""One engine's replica with a real vLLM engine, and what the role `serving` does for it."""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from driftloop_contracts.language import SIGNATURE
from driftloop_contracts.model import Deployment, ModelSpec, ServedVersion, TrafficSplit
from driftloop_contracts.replica import LoadedVersions
from driftloop_serving.batching.model_table import ModelTable, held_remotely
from driftloop_serving.capture.spool_reader import SpoolReader
from driftloop_serving.replicas.engine_replica import EngineReplica
from driftloop_serving.replicas.replica_config import EngineConfig
from driftloop_serving.replicas.replica_status import loaded_versions
from driftloop_settings import Settings
from driftloop_store import open_store

HI: Any = [{"role": "user", "content": "hello"}]


class World:
    """One engine's replica, and a front that knows of it."""

    def __init__(
        self, settings: Settings, base: Path, options: dict[str, Any] | None = None
    ) -> None:
        self.settings = settings
        self.store = open_store(settings.store_url)
        spec = ModelSpec("tiny", "generation", "text", runtime="vllm", options=options or {})
        served = ServedVersion(1, str(base), SIGNATURE)
        self.deployment = Deployment(spec, (served,), TrafficSplit(1), revision=1)
        self.replica = EngineReplica(settings.model_dump_json())
        self.table = ModelTable()
        self.loaded = LoadedVersions()

    async def deploy(self, *versions: ServedVersion, split: TrafficSplit | None = None) -> None:
        """What the role `serving` does of a changed deployment."""
        current = self.deployment
        self.deployment = replace(
            current,
            versions=versions or current.versions,
            split=split or current.split,
            revision=current.revision + 1,
        )
        await self.replica.reconfigure(EngineConfig(self.deployment, 1).to_dict())
        report = self.store.replica_report("", os.getpid())
        assert report is not None
        self.loaded = loaded_versions("tiny", [[report]], 0)
        served = held_remotely(self.deployment, self.loaded.versions, self.loaded.addresses)
        self.table = ModelTable({"tiny": served})

    def kept(self, prediction_id: str) -> list[dict[str, Any]]:
        """The rows of a prediction in the engine's spool, by column."""
        (folder,) = self.settings.spool_dir.glob("engine-*")
        found = []
        for batch in SpoolReader(folder).read(64 << 20).predictions:
            if batch.ids == [prediction_id]:
                columns = {**batch.inputs, **(batch.outputs or {})}
                found += [
                    {name: array[row] for name, array in columns.items()}
                    | {"arm": batch.arm, "version": batch.version}
                    for row in range(batch.rows)
                ]
        return found

    def adapter(self, number: int, folder: Path) -> ServedVersion:
        return ServedVersion(number, str(folder), SIGNATURE, base=1)
