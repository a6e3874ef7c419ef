"""The port of a trainer, one for each kind of model. The job does the rest: it pins the data,
writes the lineage, asks the gate, registers, starts the rollout, and compares reproductions."""

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

from driftloop_artifacts import open_artifacts
from driftloop_contracts.model import Deployment, ModelSpec, ServedVersion
from driftloop_lake.port import Pin, PinnedLake
from driftloop_registry.port import Registry
from driftloop_retrain.record.lineage import Lineage, Tuning
from driftloop_retrain.record.outcome import Outcome
from driftloop_retrain.record.provenance import NamedRecipe
from driftloop_settings import Settings

VERSION_FOLDER = "version"
"""The folder of the new version's files in a training's work folder."""
Report = Callable[[float, str], None]
"""(completed share, a sentence)."""
Tell = Callable[[str, float, str], None]
"""(stage, completed share, a sentence)."""


@dataclass(frozen=True)
class TrainingContext:
    """The resources of a trainer."""

    settings: Settings
    lake: PinnedLake
    registry: Registry
    held: ExitStack = field(default_factory=ExitStack)
    """Keeps the files of versions on this machine until the training has ended."""

    def at_hand(self, version: ServedVersion) -> ServedVersion:
        """The version with its folder on this machine. Raises RetryLater if its files cannot be
        reached now."""
        files = open_artifacts(self.settings).use(version.path)
        return replace(version, path=str(self.held.enter_context(files)))


@dataclass(frozen=True)
class TrainingOrder:
    """One training.

    champion: with its folder on this machine.
    recipes: to be used in place of the model's own, if any. change_at: when the champion became
    worse. pin, as_of: the lake's data to read, with labels received up to then. work: a folder that
    survives a kill of the process.
    """

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
    """A candidate, with its files in the work folder's VERSION_FOLDER. recipes: those that
    competed, by name. sha256: the hash of the result. tuning: set for an adapter. settings: of
    `retrain`, those that the training decided, to repeat it with."""

    outcome: Outcome
    recipes: Mapping[str, NamedRecipe]
    sha256: str
    tuning: Tuning | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class TrainedAgain:
    """A repeated training. exact: (name, recorded value, new value) for values that must be equal.
    may_differ: whether the artifact may legitimately differ."""

    exact: tuple[tuple[str, int | str, int | str], ...]
    metrics: Mapping[str, float]
    recipes: Mapping[str, NamedRecipe]
    sha256: str
    may_differ: bool


class Trainer(Protocol):
    @property
    def artifact(self) -> str:
        """What it produces, in one word."""

    def train(self, context: TrainingContext, order: TrainingOrder, tell: Tell) -> Trained:
        """Train a candidate and compare it with the champion. Called again after a kill, it resumes
        from the contents of the work folder. Raises Rejected with what is missing, RetryLater if
        the lake or the registry is unavailable, and the errors of a recipe."""

    def reproduce(
        self, context: TrainingContext, lineage: Lineage, work: Path, report: Report
    ) -> TrainedAgain:
        """Train a version again in `work`. The context has the `retrain` settings of that version.
        Raises Rejected or NotFound if its inputs no longer exist, and the errors of a recipe."""
