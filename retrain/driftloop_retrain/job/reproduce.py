"""Trains a version again from its lineage and compares. Nothing that serves is changed: not the
store, not the registry, not the lake; all that is written lies in a folder that the caller
gives."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import isclose
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from driftloop_contracts.errors import Rejected
from driftloop_contracts.model import ModelSpec
from driftloop_contracts.signature import Signature
from driftloop_lake.port import LakeReader, Pin
from driftloop_registry.port import Registry, VersionRecord
from driftloop_retrain.record.graph_identity import graph_hash
from driftloop_retrain.record.lineage import Lineage, read_lineage
from driftloop_retrain.record.provenance import Code, this_code, this_environment
from driftloop_retrain.tabular.candidate import classes_of, make_candidate
from driftloop_retrain.tabular.dataset import from_lake, split
from driftloop_retrain.tabular.recipes import Recipe, find_recipe
from driftloop_settings import RetrainSettings, Settings


@dataclass(frozen=True, slots=True)
class Compared:
    """One thing of the version, as recorded and as it came out again."""

    name: str
    recorded: float | int | str
    again: float | int | str
    same: bool


@dataclass(frozen=True, slots=True)
class Reproduction:
    """differences: of code and environment that can change a graph. `ok`: rows, winner and metrics
    are the same, and so is the graph, unless `graph_may_differ`."""

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
    lake: LakeReader,
    version: VersionRecord,
    work: Path,
    tolerance: float,
    report: Callable[[float, str], None],
    registry: Registry | None = None,
) -> Reproduction:
    """tolerance: how far a metric may be off, absolute and relative. report: told the share that is
    done and a sentence. registry: where an adapter's base is looked up. Raises Rejected where the
    version has no lineage, NotFound where the lake no longer has its rows, and what a recipe
    raises.
    """
    lineage = read_lineage(version)
    if lineage is None:
        raise Rejected(
            f"version {version.version} of {version.model!r} was deployed, not trained from the "
            f"lake: "
            "there is nothing to train it again from"
        )
    settings = settings.model_copy(update={"retrain": _settings_of(lineage)})
    if lineage.tuning is not None:
        from driftloop_retrain.language.reproduce import tune_again

        assert registry is not None, "an adapter's base is in the registry"
        return tune_again(settings, lake, registry, version, lineage, work, tolerance, report)
    spec = ModelSpec.from_dict(lineage.training.spec)
    signature = Signature.from_dict(lineage.training.signature)
    recipes = [find_recipe(name) for name in lineage.training.recipes]
    data = lineage.data
    report(0.0, f"reading predictions@{data.predictions} labels@{data.labels} from the lake")
    pin = Pin(data.predictions, data.labels)
    rows = from_lake(lake, spec, signature, pin, data.as_of, settings.retrain.max_rows)
    parts = split(rows, settings.retrain, data.change_at)
    candidate = make_candidate(
        settings, spec, signature.inputs, parts, recipes, classes_of(spec, rows), work, report
    )
    best = candidate.found.best
    exact: list[tuple[str, int | str, int | str]] = [
        ("rows", data.rows, rows.rows),
        ("trained rows", data.trained_rows, parts.fit.rows),
        ("hold-out rows", data.holdout_rows, parts.holdout.rows),
        ("family", lineage.training.family, best.family),
        ("span", lineage.training.span, best.span.name),
    ]
    compared = compare(exact, lineage.metrics, candidate.metrics, tolerance)
    graph = graph_hash(candidate.folder)
    same = graph == lineage.graph_sha256
    changed = _differences(lineage, recipes)
    winner = next(recipe for recipe in recipes if recipe.name == best.family)
    return Reproduction(
        version.model,
        version.version,
        compared,
        Compared("graph", lineage.graph_sha256, graph, same),
        bool(changed) or not getattr(winner, "deterministic", True),
        tuple(changed),
    )


def compare(
    exact: Sequence[tuple[str, int | str, int | str]],
    recorded: Mapping[str, float],
    again: Mapping[str, float],
    tolerance: float,
) -> tuple[Compared, ...]:
    """What must be the same, and metrics that may differ by the tolerance."""
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
            f"its setting retrain.{place} means nothing to this driftloop (it was trained with "
            f"{lineage.code.version}): {first['msg']}"
        ) from None


def _differences(lineage: Lineage, recipes: list[Recipe]) -> list[str]:
    return differences(
        lineage, this_code(recipes), lineage.environment.differences(this_environment())
    )


def differences(lineage: Lineage, code: Code, environment: list[str]) -> list[str]:
    """Of code and environment, in words."""
    found = list(environment)
    if code.sha256 != lineage.code.sha256:
        found.append(f"code {lineage.code.commit} → {code.commit}")
    found += [
        f"recipe {name}"
        for name, digest in lineage.code.recipes.items()
        if code.recipes.get(name) != digest
    ]
    return found
