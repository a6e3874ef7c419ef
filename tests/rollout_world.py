"""A world for the controller: a real store, a lake and a registry in memory, and a simulated
fleet."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from driftloop_contracts.model import Deployment, ModelSpec, ServedVersion, TrafficSplit
from driftloop_contracts.replica import LoadedVersions
from driftloop_contracts.signature import Signature, TensorSpec
from driftloop_lake.port import LakeCounts, Pin
from driftloop_rollout.controller import Controller
from driftloop_rollout.machine import Rollout
from driftloop_rollout.shadow_graph import OpenGraph
from driftloop_settings import Settings
from driftloop_store.store import Store

MODEL = "loans"
SIGNATURE = Signature((TensorSpec("x", "FP32", (-1, 1)),), (TensorSpec("label", "INT64", (-1,)),))
START = datetime(2026, 11, 24, tzinfo=UTC)


def served(version: int, path: str = "") -> ServedVersion:
    return ServedVersion(version, path or f"/models/{version}", SIGNATURE)


class MemoryShadows:
    """A `ShadowAnswers`."""

    def __init__(self) -> None:
        self.marks: dict[str, datetime] = {}
        self.tables: list[pa.Table] = []

    def append(self, model: str, rollout_id: str, rows: pa.Table, until: datetime) -> None:
        done = self.marks.get(rollout_id, datetime.fromtimestamp(0, UTC))
        if until > done:
            since = pa.scalar(done, rows["predicted_at"].type)
            self.tables.append(rows.filter(pc.greater_equal(rows["predicted_at"], since)))
            self.marks[rollout_id] = until

    def read(self, model: str, version: int, since: datetime, until: datetime) -> pa.Table:
        rows = pa.concat_tables(self.tables)
        at = rows["predicted_at"]
        inside = pc.and_(
            pc.greater_equal(at, pa.scalar(since, at.type)), pc.less(at, pa.scalar(until, at.type))
        )
        return rows.filter(inside)


class MemoryLake:
    """Rows that become visible `delay` after they were answered; labels after `label_delay`
    more."""

    def __init__(self) -> None:
        self.tables: list[pa.Table] = []
        self.now = START
        self.delay = timedelta(seconds=2)
        self.label_delay = timedelta(seconds=2)
        self.away = False
        self.shadow_answers = MemoryShadows()

    def shadows(self) -> MemoryShadows:
        return self.shadow_answers

    def pin(self, model: str) -> Pin | None:
        if self.away:
            raise OSError("the lake is away")
        return Pin(len(self.tables), len(self.tables)) if self.tables else None

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
        table = pa.concat_tables(self.tables[: pin.predictions])
        at, visible = (
            table["predicted_at"],
            pa.scalar(self.now - self.delay, pa.timestamp("us", "UTC")),
        )
        keep = pc.less_equal(at, visible)
        if since is not None:
            keep = pc.and_(keep, pc.greater_equal(at, pa.scalar(since, at.type)))
        if until is not None:
            keep = pc.and_(keep, pc.less(at, pa.scalar(until, at.type)))
        if versions:
            keep = pc.and_(keep, pc.is_in(table["version"], pa.array(versions, pa.int32())))
        table = table.filter(keep)
        labels_until = self.now - self.label_delay
        known = pc.less_equal(table["predicted_at"], pa.scalar(labels_until, at.type))
        for name in ("label", "label_number"):
            column = pc.if_else(known, table[name], pa.scalar(None, table[name].type))
            table = table.set_column(table.schema.get_field_index(name), name, column)
        came = pc.add(
            table["predicted_at"].cast("int64"), self.label_delay // timedelta(microseconds=1)
        )
        came = pc.if_else(table["label"].is_valid(), came, None).cast(at.type)
        table = table.append_column("label_at", came)
        if oldest:
            return table.slice(0, oldest)
        return table.slice(max(0, len(table) - newest)) if newest else table

    def count(self, model: str, pin: Pin) -> LakeCounts:
        raise NotImplementedError

    def missing(self, model: str, pin: Pin, version: int, replicas: Iterable[str]) -> int:
        return 0

    def unmatched_labels(self) -> int:
        return 0


class MemoryRegistry:
    def __init__(self) -> None:
        self.named: dict[str, int] = {"champion": 1, "challenger": 2}
        self.away = False

    def set_alias(self, model: str, alias: str, version: int | None) -> None:
        if self.away:
            raise OSError("the registry is away")
        if version is None:
            self.named.pop(alias, None)
        else:
            self.named[alias] = version

    def aliases(self, model: str) -> dict[str, int]:
        return dict(self.named)


@dataclass
class Behaviour:
    """How a version behaves: probability of a wrong class, of a failed request, of a slow one."""

    wrong: float = 0.085
    failing: float = 0.0
    slow: float = 0.01


@dataclass
class World:
    store: Store
    settings: Settings
    lake: MemoryLake
    registry: MemoryRegistry
    rng: np.random.Generator
    behaviour: dict[int, Behaviour] = field(
        default_factory=lambda: {1: Behaviour(), 2: Behaviour(wrong=0.063)}
    )
    now: datetime = START
    requests_per_s: int = 25
    rows: int = 20
    labelled: float = 1.0
    serving_away: bool = False
    most_traffic: dict[int, float] = field(default_factory=dict)
    open_graph: OpenGraph | None = None

    def controller(self) -> Controller:
        """A fresh one, as after a restart."""
        return Controller(self.settings, self.store, lambda: self.lake, open_graph=self.open_graph)

    def with_rules(self, **rules: object) -> None:
        changed = self.settings.rollout.model_copy(update=rules)
        self.settings = self.settings.model_copy(update={"rollout": changed})

    def with_policy(self, **policy: object) -> None:
        """The model's own rules of the rollout, as a deploy changes them."""
        d = self.deployment
        changed = replace(d, model=replace(d.model, policy={"rollout": policy}))
        self.store.put_deployment(changed)
        self.serve()

    def deploy(self, task: str | None = "classification") -> None:
        spec = ModelSpec(MODEL, task, "label" if task else None)  # type: ignore[arg-type]
        self.store.put_deployment(Deployment(spec, (served(1),), TrafficSplit(1)))
        self.serve()

    def request(self, id_: str = "r1", candidate: int = 2, path: str = "") -> str:
        version = served(candidate, path)
        self.store.request_rollout(id_, version, MODEL, self.now, "the gate was passed")
        return id_

    @property
    def deployment(self) -> Deployment:
        return self.store.require_deployment(MODEL)

    def rollout(self, id_: str = "r1") -> Rollout:
        return Rollout.from_record(self.store.rollout(id_))

    def serve(self) -> None:
        """Replicas take on what is desired, and say so."""
        if not self.serving_away:
            d = self.deployment
            versions = tuple(v.version for v in d.versions)
            loaded = LoadedVersions(versions=versions, revision=d.revision)
            self.store.put_loaded_versions(MODEL, loaded)

    def live(self, seconds: float) -> None:
        """Answer requests for a while, by the split that is desired."""
        count = round(self.requests_per_s * seconds)
        split = self.deployment.split
        if split.canary is not None:
            self.most_traffic[split.canary] = max(
                split.weight, self.most_traffic.get(split.canary, 0.0)
            )
        if count:
            self.lake.tables.append(self._answers(split, count, seconds))
        self.now += timedelta(seconds=seconds)
        self.lake.now = self.now
        self.serve()

    def _answers(self, split: TrafficSplit, count: int, seconds: float) -> pa.Table:
        rng, rows = self.rng, self.rows
        arms = [split.arm(rng.bytes(16)) for _ in range(count)]
        version = np.repeat([v for _, v in arms], rows)
        behave = [self.behaviour[v] for _, v in arms]
        failed = np.repeat(np.array([rng.random() < b.failing for b in behave], dtype=bool), rows)
        slow = np.repeat([rng.random() < b.slow for b in behave], rows)
        wrong = rng.random(count * rows) < np.repeat([b.wrong for b in behave], rows)
        us = np.repeat(np.sort(rng.integers(0, int(seconds * 1e6), count)), rows)
        base = round(self.now.timestamp() * 1e6)
        truth = rng.integers(0, 2, count * rows)
        answer = pa.array(np.where(wrong, 1 - truth, truth), pa.int64(), mask=failed)
        missing = failed
        if self.labelled < 1.0:
            missing = failed | (rng.random(count * rows) >= self.labelled)
        labels = np.where(truth, "1", "0")  # as JSON
        return pa.table(
            {
                "prediction_id": pa.array(np.repeat([f"{base}-{i}" for i in range(count)], rows)),
                "row": pa.array(np.tile(np.arange(rows), count), pa.int32()),
                "version": pa.array(version, pa.int32()),
                "arm": pa.array(np.repeat([arm for arm, _ in arms], rows)),
                "predicted_at": pa.array(base + us, pa.timestamp("us", "UTC")),
                "latency_s": pa.array(np.where(slow, 0.2, 0.005), pa.float32()),
                "error": pa.array(np.where(failed, "model failed", None), pa.string()),
                "in_x": pa.array(truth, pa.float32()),
                "out_label": answer,
                "label": pa.array(labels, pa.string(), mask=missing),
                "label_number": pa.array(truth, pa.float64(), mask=missing),
            }
        )

    def run(
        self, seconds: float, *, controller: Controller | None = None, tick_s: float = 1
    ) -> None:
        """Live on, with a controller, until the rollouts have ended or `seconds` passed."""
        controller = controller or self.controller()
        end = self.now + timedelta(seconds=seconds)
        while self.now < end and self.store.active_rollouts():
            controller.tick(self.now)
            self.live(tick_s)
