"""Fine-tunes an adapter again from its lineage and compares."""

from collections.abc import Callable
from pathlib import Path

from driftloop_contracts.errors import Rejected
from driftloop_contracts.language import ADAPTER_CONFIG
from driftloop_contracts.model import ModelSpec
from driftloop_lake.port import LakeReader, Pin
from driftloop_registry.port import Registry, VersionRecord
from driftloop_retrain.job.reproduce import Compared, Reproduction, compare, differences
from driftloop_retrain.language.adapter import device_of, weights_hash
from driftloop_retrain.language.candidate import make_adapter
from driftloop_retrain.language.job import weights_of
from driftloop_retrain.language.recipe_catalogue import find_language_recipe
from driftloop_retrain.language.training_answers import read_answers
from driftloop_retrain.record.lineage import Lineage
from driftloop_retrain.record.provenance import DECIDING_TUNING, this_code, this_environment
from driftloop_settings import Settings, TuningSettings
from driftloop_vllm.weights import fingerprint


def tune_again(
    settings: Settings,
    lake: LakeReader,
    registry: Registry,
    version: VersionRecord,
    lineage: Lineage,
    work: Path,
    tolerance: float,
    report: Callable[[float, str], None],
) -> Reproduction:
    """On a GPU, where no two trainings are the same, only metrics are compared. Raises Rejected
    where the base is another one than it was, NotFound where it or the rows are gone."""
    tuning, data = lineage.tuning, lineage.data
    assert tuning is not None
    base = weights_of(registry.version(version.model, tuning.base_version).served)
    if fingerprint(base) != tuning.base_fingerprint:
        raise Rejected(f"version {tuning.base_version}, the base, has other weights than it had")

    def adapter(number: int) -> Path:
        return weights_of(registry.version(version.model, number).served, ADAPTER_CONFIG)

    start = None if tuning.start_version is None else adapter(tuning.start_version)
    champion = lineage.parent_version
    against = adapter(champion) if registry.version(version.model, champion).base else None
    spec = ModelSpec.from_dict(lineage.training.spec)
    spread = bool(tuning.settings.get("ray_address"))
    # Where the cluster is is today's matter; what was trained on none is again.
    cluster = settings.for_model(spec).tuning.ray_address if spread else ""
    asked = TuningSettings(
        **settings.tuning.model_dump() | tuning.settings | {"ray_address": cluster}
    )
    recipe = find_language_recipe(lineage.training.family)
    pin = Pin(data.predictions, data.labels)
    report(0.0, f"reading predictions@{data.predictions} labels@{data.labels} from the lake")
    answers = read_answers(lake, version.model, pin, data.as_of, asked.answers)
    work.mkdir(parents=True, exist_ok=True)
    candidate = make_adapter(
        spec, asked, lineage.seed, recipe, base, against, start, answers, work, report
    )
    exact: list[tuple[str, int | str, int | str]] = [
        ("answers", data.rows, len(answers)),
        ("trained on", data.trained_rows, candidate.lesson.trained_rows),
        ("held out", data.holdout_rows, candidate.lesson.holdout_rows),
        ("steps", lineage.training.rounds, candidate.tuned.steps),
    ]
    weights = weights_hash(candidate.folder)
    changed = differences(
        lineage,
        this_code([recipe]),
        lineage.environment.differences(this_environment(), DECIDING_TUNING),
    )
    free = device_of(asked) != "cpu" or not getattr(recipe, "deterministic", True)
    free = free or (spread and (asked.device != "cpu" or not cluster))
    return Reproduction(
        version.model,
        version.version,
        compare(exact, lineage.metrics, candidate.evaluation.metrics, tolerance),
        Compared("adapter", lineage.graph_sha256, weights, weights == lineage.graph_sha256),
        bool(changed) or free,
        tuple(changed),
    )
