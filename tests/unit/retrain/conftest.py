"""A lake in memory with what a stack would have archived, and what a retrain works with."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from served_rows import MODEL, NOW, archived

from driftloop_contracts.model import Deployment, ModelSpec, ServedVersion, TrafficSplit
from driftloop_contracts.retrain import Retrain
from driftloop_lake.port import LakeCounts, Pin
from driftloop_onnx import OnnxModel
from driftloop_registry.memory_registry import MemoryRegistry
from driftloop_retrain.job.job import RetrainContext
from driftloop_retrain.tabular.dataset import input_tensors
from driftloop_retrain.tabular.recipes import FitContext
from driftloop_retrain.tabular.recipes.check import example
from driftloop_retrain.tabular.recipes.gradient_boosting import GradientBoosting
from driftloop_settings import RetrainSettings, Settings
from driftloop_store import open_store


@dataclass
class MemoryLake:
    """A `PinnedLake` of one table; `pins` are the reads that were asked for."""

    table: pa.Table | None = None
    pins: list[Pin] = field(default_factory=list)
    away: bool = False

    def pin(self, model: str) -> Pin | None:
        if self.away:
            raise OSError("connection refused")
        return None if self.table is None else Pin(3, 4)

    def labelled(
        self,
        model: str,
        pin: Pin,
        *,
        as_of: datetime | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        newest: int | None = None,
        oldest: int | None = None,
        versions: tuple[int, ...] = (),
        arm: str | None = None,
        only_labelled: bool = True,
    ) -> pa.Table:
        self.pins.append(pin)
        assert self.table is not None
        found = self.table.filter(pc.less_equal(self.table["label_at"], pa.scalar(as_of)))
        return found.slice(max(0, found.num_rows - (newest or found.num_rows)))

    def answered(self, model: str, pin: Pin, since: datetime, until: datetime) -> int:
        assert self.table is not None
        at = self.table["predicted_at"]
        return int(pc.sum(pc.and_(pc.greater_equal(at, since), pc.less(at, until))).as_py())

    def count(self, model: str, pin: Pin) -> LakeCounts:
        raise NotImplementedError

    def missing(self, model: str, pin: Pin, version: int, replicas: Iterable[str]) -> int:
        return 0

    def unmatched_labels(self) -> int:
        raise NotImplementedError

    def offsets(self, model: str, pin: Pin) -> dict[str, dict[str, int]]:
        return {"predictions": {"driftloop.predictions:0": 17}, "labels": {}}


@pytest.fixture(scope="session")
def poor_champion(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A version trained on a few rows, so that a retrain can do better."""
    folder = tmp_path_factory.mktemp("champion")
    data = example("classification", rows=150, seed=5)
    context = FitContext(
        "classification",
        input_tensors(data.features),
        0,
        folder,
        classes=np.unique(data.labels),
        rounds=2,
    )
    GradientBoosting().fit(data, None, context).export(folder)
    return folder


@pytest.fixture
def lake() -> MemoryLake:
    return MemoryLake()


@pytest.fixture
def context(tmp_path: Path, lake: MemoryLake, poor_champion: Path) -> RetrainContext:
    """Version 1 of `loans` serves, and the lake holds 2,000 labelled rows of it."""
    settings = Settings(
        state_dir=tmp_path / "state",
        retrain=RetrainSettings(families=("gradient-boosting",), budget_s=0),
    )
    settings.state_dir.mkdir()
    store = open_store(settings.store_url)
    champion = OnnxModel(poor_champion)
    registry = MemoryRegistry(tmp_path / "registry")
    made = registry.register(
        MODEL, poor_champion, champion.signature, metrics={}, params={}, tags={}
    )
    spec = ModelSpec(MODEL, "classification", "label", "tabular", slices=("kind",))
    served = ServedVersion(1, made.path, champion.signature)
    store.put_deployment(Deployment(spec, (served,), TrafficSplit(stable=1)))
    lake.table = archived(example("classification", rows=2_000), champion)
    return RetrainContext(settings, store, lake, registry, lambda: NOW)


@pytest.fixture
def ask(context: RetrainContext) -> Callable[..., str]:
    """Ask for a retrain; returns its id."""

    def one(**body: object) -> str:
        retrain_id = "0f4f7e7e-4f6d-4a5e-9a57-000000000001"
        asked: Any = {
            "trigger": "operator",
            "reason": "a test",
            "champion": 1,
            **body,
        }
        context.store.request_retrain(Retrain(id=retrain_id, model=MODEL, at=NOW, **asked))
        return retrain_id

    return one
