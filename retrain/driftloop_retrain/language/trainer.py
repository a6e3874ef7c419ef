"""The trainer of language models: from answers and feedback to an evaluated LoRA adapter."""

from dataclasses import asdict
from datetime import datetime
from pathlib import Path

from driftloop_contracts.errors import Rejected
from driftloop_contracts.language import ADAPTER_CONFIG
from driftloop_contracts.model import ModelSpec
from driftloop_lake.port import Pin
from driftloop_retrain.job.trainer import (
    Report,
    Tell,
    Trained,
    TrainedAgain,
    TrainingContext,
    TrainingOrder,
)
from driftloop_retrain.language.adapter import describe, device_of, on_this_machine, weights_hash
from driftloop_retrain.language.base_weights import base_of, weights_of
from driftloop_retrain.language.candidate import make_adapter
from driftloop_retrain.language.recipe_catalogue import find_language_recipe
from driftloop_retrain.language.report import write_report
from driftloop_retrain.language.training_answers import TrainingAnswer, read_answers
from driftloop_retrain.record.lineage import Lineage, Tuning
from driftloop_retrain.record.outcome import Outcome
from driftloop_retrain.record.pinning import or_later, source_of
from driftloop_settings import TuningSettings
from driftloop_vllm.options import parse_options
from driftloop_vllm.weights import fingerprint


class LanguageTrainer:
    artifact = "adapter"

    def train(self, context: TrainingContext, order: TrainingOrder, tell: Tell) -> Trained:
        spec, champion = order.spec, order.champion
        settings = on_this_machine(context.settings.tuning)
        name = recipe_name(spec, order.recipes)
        recipe = find_language_recipe(name)
        check_rank(spec, settings)
        base = base_of(order.deployment, champion, context.registry)
        weights = weights_of(context.at_hand(base))
        adapter = None if champion.base is None else weights_of(champion, ADAPTER_CONFIG)
        start = adapter if settings.from_champion else None
        tell("data", 0.0, "reading answers and feedback from the lake")
        answers = _read(context, spec.name, order.pin, order.as_of, settings)
        tell("data", 0.02, f"{len(answers):,} answers")
        candidate = make_adapter(
            spec,
            settings,
            context.settings.retrain.seed,
            recipe,
            weights,
            adapter,
            start,
            answers,
            order.work,
            lambda done, words: tell("train", 0.02 + 0.9 * done, words),
        )
        describe(candidate.folder, spec.name, base.version, weights)
        lesson, judged = candidate.lesson, candidate.evaluation
        outcome = Outcome(
            family=recipe.name,
            span="all",
            rounds=candidate.tuned.steps,
            rows=len(answers),
            fresh_rows=0,
            data=source_of(spec.name, order.pin, order.as_of),
            trained_rows=lesson.trained_rows,
            holdout_rows=lesson.holdout_rows,
            metrics=judged.metrics,
            champion_metrics=judged.champion_metrics,
            gate=judged.gate,
            base_version=base.version,
            details={
                "validation_loss": candidate.tuned.loss,
                "trials": [],
                "dropped": lesson.dropped,
                "kinds": lesson.kinds,
                "samples": [asdict(sample) for sample in judged.samples],
            },
        )
        write_report(order.work / "report", spec.name, outcome.to_dict())
        tuning = Tuning(
            settings=settings.model_dump(mode="json"),
            base_version=base.version,
            base_fingerprint=fingerprint(weights),
            start_version=None if start is None else champion.version,
            dropped=lesson.dropped,
            kinds=lesson.kinds,
        )
        return Trained(outcome, {name: recipe}, weights_hash(candidate.folder), tuning)

    def reproduce(
        self, context: TrainingContext, lineage: Lineage, work: Path, report: Report
    ) -> TrainedAgain:
        """Train again. Trainings on a GPU are not deterministic, so only their metrics are
        compared."""
        tuning, data, registry = lineage.tuning, lineage.data, context.registry
        assert tuning is not None
        base = weights_of(
            context.at_hand(registry.version(lineage.model, tuning.base_version).served)
        )
        if fingerprint(base) != tuning.base_fingerprint:
            raise Rejected(
                f"version {tuning.base_version}, the base, has other weights than it had"
            )

        def adapter(number: int) -> Path:
            found = context.at_hand(registry.version(lineage.model, number).served)
            return weights_of(found, ADAPTER_CONFIG)

        start = None if tuning.start_version is None else adapter(tuning.start_version)
        champion = lineage.parent_version
        against = adapter(champion) if registry.version(lineage.model, champion).base else None
        spec = ModelSpec.from_dict(lineage.training.spec)
        spread = bool(tuning.settings.get("ray_address"))
        # The address of the cluster may have changed since; a training without a cluster is
        # repeated without one.
        cluster = context.settings.for_model(spec).tuning.ray_address if spread else ""
        settings = TuningSettings(
            **context.settings.tuning.model_dump() | tuning.settings | {"ray_address": cluster}
        )
        (name,) = lineage.training.recipes
        recipe = find_language_recipe(name)
        pin = Pin(data.predictions, data.labels)
        report(0.0, f"reading predictions@{pin.predictions} labels@{pin.labels} from the lake")
        answers = _read(context, lineage.model, pin, data.as_of, settings)
        work.mkdir(parents=True, exist_ok=True)
        candidate = make_adapter(
            spec, settings, lineage.seed, recipe, base, against, start, answers, work, report
        )
        free = device_of(settings) != "cpu" or not getattr(recipe, "deterministic", True)
        exact = (
            ("answers", data.rows, len(answers)),
            ("trained on", data.trained_rows, candidate.lesson.trained_rows),
            ("held out", data.holdout_rows, candidate.lesson.holdout_rows),
            ("steps", lineage.training.rounds, candidate.tuned.steps),
        )
        return TrainedAgain(
            exact,
            candidate.evaluation.metrics,
            {name: recipe},
            weights_hash(candidate.folder),
            may_differ=free or (spread and (settings.device != "cpu" or not cluster)),
        )


def recipe_name(spec: ModelSpec, asked: tuple[str, ...]) -> str:
    """Return the recipe's name. Raises Rejected unless there is exactly one: adapters of several
    recipes do not compete."""
    wanted = asked or ((spec.recipe,) if spec.recipe else ())
    if len(wanted) != 1:
        raise Rejected(
            f"a language model is fine-tuned with one recipe, not with {len(wanted)}: "
            "name lora-sft, lora-dpo or module:attribute"
        )
    return wanted[0]


def check_rank(spec: ModelSpec, settings: TuningSettings) -> None:
    """Raises Rejected for a rank that the engine would refuse, before hours of training."""
    allowed = parse_options(spec.options).engine.max_lora_rank
    if settings.rank > allowed:
        raise Rejected(
            f"tuning.rank is {settings.rank} but the engine allows {allowed}: lower it, or raise "
            "options.engine.max_lora_rank and deploy the base again"
        )


def _read(
    context: TrainingContext, model: str, pin: Pin, as_of: datetime, settings: TuningSettings
) -> list[TrainingAnswer]:
    return or_later(
        "the lake", lambda: read_answers(context.lake, model, pin, as_of, settings.answers)
    )
