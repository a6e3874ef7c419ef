"""Trains a version again from its lineage and compares the results. Does not change the store, the
registry or the lake; all output is in a folder given by the caller."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from math import isclose
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from driftloop_artifacts import open_artifacts
from driftloop_contracts.errors import Rejected
from driftloop_contracts.model import ModelSpec
from driftloop_lake.port import PinnedLake
from driftloop_registry.port import Registry, VersionRecord
from driftloop_retrain.job.trainer import Report, TrainingContext
from driftloop_retrain.job.trainers import trainer_of
from driftloop_retrain.record.lineage import Lineage, read_lineage
from driftloop_retrain.record.provenance import DECIDING, Code, this_code, this_environment
from driftloop_settings import RetrainSettings, Settings


@dataclass(frozen=True, slots=True)
class Compared:
    """A property of the version: its recorded and its reproduced value."""

    name: str
    recorded: float | int | str
    again: float | int | str
    same: bool


@dataclass(frozen=True, slots=True)
class Reproduction:
    """The result of a reproduction. differences: changes of code and environment that can affect a
    graph. `ok`: rows, winner and metrics are the same, and so is the graph, unless
    `graph_may_differ`."""

    model: str
    version: int
    compared: tuple[Compared, ...]
    graph: Compared
    graph_may_differ: bool
    differences: tuple[str, ...]

    @property
    def ok(self) -> bool:
        same = all(item.same for item in self.compared)
        return same and (self.graph.same or self.graph_may_differ)

    def to_dict(self) -> dict[str, Any]:
        return {
            "model": self.model,
            "version": self.version,
            "ok": self.ok,
            "compared": [
                {"name": c.name, "recorded": c.recorded, "again": c.again, "same": c.same}
                for c in (*self.compared, self.graph)
            ],
            "graph_may_differ": self.graph_may_differ,
            "differences": list(self.differences),
        }


def reproduce(
    settings: Settings,
    lake: PinnedLake,
    registry: Registry,
    version: VersionRecord,
    work: Path,
    tolerance: float,
    report: Report,
) -> Reproduction:
    """Train a version again and compare it. tolerance: the allowed absolute and relative difference
    of metrics. report: called with the completed share and a sentence. registry: for looking up an
    adapter's base. Raises Rejected if the version has no lineage, NotFound if the lake no longer
    has its rows, and the errors of a recipe."""
    lineage = read_lineage(version, open_artifacts(settings).use)
    if lineage is None:
        raise Rejected(
            f"version {version.version} of {version.model!r} was deployed, not trained from the "
            "lake: it cannot be trained again"
        )
    settings = settings.model_copy(update={"retrain": _settings_of(lineage)})
    spec = ModelSpec.from_dict(lineage.training.spec)
    trainer = trainer_of(spec)
    with ExitStack() as held:
        context = TrainingContext(settings, lake, registry, held)
        again = trainer.reproduce(context, lineage, work, report)
    environment = lineage.environment.differences(this_environment(), DECIDING[spec.kind])
    changed = differences(lineage, this_code(again.recipes.values()), environment)
    same = again.sha256 == lineage.graph_sha256
    return Reproduction(
        version.model,
        version.version,
        compare(again.exact, lineage.metrics, again.metrics, tolerance),
        Compared(trainer.artifact, lineage.graph_sha256, again.sha256, same),
        bool(changed) or again.may_differ,
        tuple(changed),
    )


def compare(
    exact: Sequence[tuple[str, int | str, int | str]],
    recorded: Mapping[str, float],
    again: Mapping[str, float],
    tolerance: float,
) -> tuple[Compared, ...]:
    """Compare values that must be equal, and metrics that may differ by the tolerance."""
    found = [Compared(name, a, b, a == b) for name, a, b in exact]
    for name, value in recorded.items():
        new = again.get(name, float("nan"))
        same = isclose(value, new, rel_tol=tolerance, abs_tol=tolerance)
        found.append(Compared(name, value, new, same))
    return tuple(found)


def _settings_of(lineage: Lineage) -> RetrainSettings:
    try:
        return RetrainSettings(**lineage.training.settings)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise Rejected(
            f"its setting retrain.{place} is unknown to this driftloop (it was trained with "
            f"{lineage.code.version}): {first['msg']}"
        ) from None


def differences(lineage: Lineage, code: Code, environment: list[str]) -> list[str]:
    """Return the differences in code and environment as texts."""
    found = list(environment)
    if code.sha256 != lineage.code.sha256:
        found.append(f"code {lineage.code.commit} → {code.commit}")
    found += [
        f"recipe {name}"
        for name, digest in lineage.code.recipes.items()
        if code.recipes.get(name) != digest
    ]
    return found
