"""A lake in memory with what a stack would have archived, and what a retrain works with."""

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from driftloop_contracts.events import FIXED_COLUMNS
from driftloop_contracts.model import Deployment, ModelSpec, ServedVersion, TrafficSplit
from driftloop_contracts.retrain import Retrain
from driftloop_lake.port import LakeCounts, Pin
from driftloop_onnx import OnnxModel
from driftloop_registry.memory_registry import MemoryRegistry
from driftloop_retrain.job.job import RetrainContext
from driftloop_retrain.tabular.dataset import Dataset, input_tensors
from driftloop_retrain.tabular.inference import outputs_of
from driftloop_retrain.tabular.recipes import FitContext
from driftloop_retrain.tabular.recipes.check import example
from driftloop_retrain.tabular.recipes.gradient_boosting import GradientBoosting
from driftloop_settings import RetrainSettings, Settings
from driftloop_store import open_store

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
MODEL = "loans"


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


def archived(data: Dataset, champion: OnnxModel) -> pa.Table:
    """The rows as served by the champion, one a second up to NOW, each with its label."""
    count = data.rows
    start = NOW - timedelta(seconds=count)
    at = [start + timedelta(seconds=i) for i in range(count)]
    fixed = {
        "prediction_id": [f"p{i}" for i in range(count)],
        "row": [0] * count,
        "version": [1] * count,
        "arm": ["stable"] * count,
        "predicted_at": at,
        "replica": ["r"] * count,
        "sequence": list(range(count)),
        "latency_s": [0.01] * count,
        "error": [None] * count,
        "routing_key_hash": [None] * count,
        "trace_id": [None] * count,
    }
    columns = {f.name: pa.array(fixed[f.name], f.type) for f in FIXED_COLUMNS}
    columns |= {f"in_{name}": data.features[name] for name in data.features.column_names}
    for name, values in outputs_of(champion, data.features).items():
        columns[f"out_{name}"] = pa.array(list(values))
    columns["label"] = pa.array([json.dumps(label) for label in data.labels.tolist()])
    columns["label_number"] = pa.array(data.labels.astype(float))
    columns["label_at"] = pa.array(at, pa.timestamp("us", tz="UTC"))
    return pa.table(columns)


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
