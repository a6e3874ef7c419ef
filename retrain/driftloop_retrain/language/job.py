"""The part of a retrain that is a language model's own: from the lake to a judged adapter."""

from pathlib import Path
from typing import Any

from driftloop_contracts.errors import NotFound, Rejected
from driftloop_contracts.language import ADAPTER_CONFIG, BASE_CONFIG
from driftloop_contracts.model import ModelSpec, ServedVersion
from driftloop_contracts.retrain import Retrain
from driftloop_retrain.job.job import RetrainContext, lineage_of
from driftloop_retrain.language.adapter import describe, on_this_machine, weights_hash
from driftloop_retrain.language.candidate import AdapterCandidate, make_adapter
from driftloop_retrain.language.port import LanguageRecipe
from driftloop_retrain.language.recipe_catalogue import find_language_recipe
from driftloop_retrain.language.report import write_report
from driftloop_retrain.language.training_answers import TrainingAnswer, read_answers
from driftloop_retrain.record.lineage import Tuning
from driftloop_retrain.record.pinning import or_later, pinned
from driftloop_retrain.record.progress import Progress
from driftloop_settings import TuningSettings
from driftloop_vllm.options import parse_options
from driftloop_vllm.weights import fingerprint

Record = dict[str, Any]


def tune(
    parts: RetrainContext,
    retrain: Retrain,
    spec: ModelSpec,
    champion: ServedVersion,
    work: Path,
    progress: Progress,
) -> Record:
    """Leave an adapter with its lineage in `work`/version and return the outcome. Raises Rejected
    with what is missing, or what a recipe raises."""
    settings = on_this_machine(parts.settings.tuning)
    recipe = find_language_recipe(recipe_name(spec, retrain.recipes))
    check_rank(spec, settings)
    base = base_of(parts, retrain, champion)
    start = champion if champion.base is not None and settings.from_champion else None
    progress.tell("data", 0.0, "reading answers and feedback from the lake")
    answers = _read(parts, retrain, spec, settings)
    progress.tell("data", 0.02, f"{len(answers):,} answers")
    candidate = make_adapter(
        spec,
        settings,
        parts.settings.retrain.seed,
        recipe,
        weights_of(base),
        None if champion.base is None else weights_of(champion, ADAPTER_CONFIG),
        None if start is None else weights_of(start, ADAPTER_CONFIG),
        answers,
        work,
        lambda done, words: progress.tell("train", 0.02 + 0.9 * done, words),
    )
    describe(candidate.folder, spec.name, base.version, weights_of(base))
    outcome = _outcome(parts, retrain, recipe, candidate, len(answers))
    outcome["base_version"] = base.version
    tuning = Tuning(
        settings=settings.model_dump(mode="json"),
        base_version=base.version,
        base_fingerprint=fingerprint(weights_of(base)),
        start_version=None if start is None else start.version,
        dropped=candidate.lesson.dropped,
        kinds=candidate.lesson.kinds,
    )
    lineage_of(
        parts,
        retrain,
        spec,
        champion,
        outcome,
        {recipe.name: recipe},
        candidate.evaluation.metrics,
        weights_hash(candidate.folder),
        tuning,
    ).write(candidate.folder)
    write_report(work / "report", spec.name, outcome)
    return outcome


def recipe_name(spec: ModelSpec, asked: tuple[str, ...]) -> str:
    """Raises Rejected unless it is one: adapters of several recipes do not compete."""
    wanted = asked or ((spec.recipe,) if spec.recipe else ())
    if len(wanted) != 1:
        raise Rejected(
            f"a language model is fine-tuned with one recipe, not with {len(wanted)}: "
            "name lora-sft, lora-dpo or module:attribute"
        )
    return wanted[0]


def check_rank(spec: ModelSpec, settings: TuningSettings) -> None:
    """Before hours of training that no engine would load."""
    allowed = parse_options(spec.options).engine.max_lora_rank
    if settings.rank > allowed:
        raise Rejected(
            f"tuning.rank is {settings.rank} and the engine takes {allowed}: lower it, or "
            f"raise "
            "options.engine.max_lora_rank and deploy the base again"
        )


def base_of(parts: RetrainContext, retrain: Retrain, champion: ServedVersion) -> ServedVersion:
    """The version with the weights that champion and candidate share. Raises NotFound."""
    if champion.base is None:
        return champion
    served = parts.store.require_deployment(retrain.model).version(champion.base)
    if served is not None:
        return served
    return or_later(
        "the registry", lambda: parts.registry.version(retrain.model, champion.base or 0).served
    )


def weights_of(version: ServedVersion, file: str = BASE_CONFIG) -> Path:
    """Its folder on this machine. Raises NotFound where the file is not in it."""
    folder = Path(version.path)
    if not (folder / file).is_file():
        raise NotFound(
            f"version {version.version} has no {file} in {version.path!r} on this machine: "
            f"fine-tuning "
            "needs its folder at the same path here"
        )
    return folder


def _read(
    parts: RetrainContext, retrain: Retrain, spec: ModelSpec, settings: TuningSettings
) -> list[TrainingAnswer]:
    def read() -> list[TrainingAnswer]:
        pin, as_of = pinned(parts.store, parts.lake, parts.clock, retrain)
        return read_answers(parts.lake, spec.name, pin, as_of, settings.answers)

    return or_later("the lake", read)


def _outcome(
    parts: RetrainContext,
    retrain: Retrain,
    recipe: LanguageRecipe,
    candidate: AdapterCandidate,
    answers: int,
) -> Record:
    """What a retrain's record says of it, in the words of other models' where they fit."""
    lesson, tuned = candidate.lesson, candidate.tuned
    read = parts.store.retrain(retrain.id).data
    assert read is not None
    return {
        "family": recipe.name,
        "span": "all",
        "rounds": tuned.steps,
        "rows": answers,
        "fresh_rows": 0,
        "data": f"lake {retrain.model} predictions@{read.predictions} labels@{read.labels} "
        f"as of {read.as_of.isoformat()}",
        "trained_rows": lesson.trained_rows,
        "holdout_rows": lesson.holdout_rows,
        "validation_loss": tuned.loss,
        "trials": [],
        "dropped": lesson.dropped,
        "kinds": lesson.kinds,
        **candidate.evaluation.to_dict(),
    }
