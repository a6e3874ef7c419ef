"""What a job asks of the trainer of one kind of model. The job does the rest: it pins what is
read, writes lineage, asks the gate, registers, starts the rollout, and compares reproductions."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol

from driftloop_contracts.model import Deployment, ModelSpec, ServedVersion
from driftloop_lake.port import LakeReader, Pin
from driftloop_registry.port import Registry
from driftloop_retrain.record.lineage import Lineage, Tuning
from driftloop_retrain.record.outcome import Outcome
from driftloop_retrain.record.provenance import NamedRecipe
from driftloop_settings import Settings

VERSION_FOLDER = "version"
"""Where in a training's work folder the files of the new version are."""
Report = Callable[[float, str], None]
"""(share done, a sentence)."""
Tell = Callable[[str, float, str], None]
"""(stage, share done, a sentence)."""


@dataclass(frozen=True)
class TrainingContext:
    """What a trainer works with."""

    settings: Settings
    lake: LakeReader
    registry: Registry


@dataclass(frozen=True)
class TrainingOrder:
    """One training. recipes: those to use in place of the model's own, if any; change_at: when the
    champion became worse; pin, as_of: what is read of the lake, labels received up to then; work:
    its folder, which outlives a killed process."""

    deployment: Deployment
    champion: ServedVersion
    recipes: tuple[str, ...]
    change_at: datetime | None
    pin: Pin
    as_of: datetime
    work: Path

    @property
    def spec(self) -> ModelSpec:
        return self.deployment.model


@dataclass(frozen=True)
class Trained:
    """A candidate, its files in the work folder's VERSION_FOLDER. recipes: those that competed, by
    the names that found them; sha256: of what was trained; tuning: of an adapter."""

    outcome: Outcome
    recipes: Mapping[str, NamedRecipe]
    sha256: str
    tuning: Tuning | None = None


@dataclass(frozen=True)
class TrainedAgain:
    """exact: (name, as recorded, as it came out) of what must be the same. may_differ: whether the
    artifact may come out otherwise by its nature."""

    exact: tuple[tuple[str, int | str, int | str], ...]
    metrics: Mapping[str, float]
    recipes: Mapping[str, NamedRecipe]
    sha256: str
    may_differ: bool


class Trainer(Protocol):
    @property
    def artifact(self) -> str:
        """What it makes, in a word."""

    def train(self, context: TrainingContext, order: TrainingOrder, tell: Tell) -> Trained:
        """Train a candidate and judge it against the champion. Called again after a kill, it goes
        on from what it finds in the work folder. Raises Rejected with what is missing, RetryLater
        if the lake or the registry cannot be reached, and what a recipe raises."""

    def reproduce(
        self, context: TrainingContext, lineage: Lineage, work: Path, report: Report
    ) -> TrainedAgain:
        """Train a version again in `work`. The context has its settings of `retrain`. Raises
        Rejected or NotFound if what it was made from is no longer there, and what a recipe
        raises."""
