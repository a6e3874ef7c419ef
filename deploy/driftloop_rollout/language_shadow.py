"""The shadow of a language model: whether it is possible, what it compares, and where the candidate
is. Its engine answers, beside the champion (docs/adr/0061-language-models-in-the-shadow.md)."""

from dataclasses import replace
from functools import partial

from driftloop_artifacts import Files
from driftloop_contracts.errors import Rejected
from driftloop_contracts.model import ModelSpec
from driftloop_contracts.replica import LoadedVersions
from driftloop_evaluation.measures import Measures
from driftloop_rollout.answer_losses import FORMAT, JUDGE, AnswerLosses, answer_losses
from driftloop_rollout.beside_quality import GUARD_PROOF
from driftloop_rollout.engine_shadow import EngineLimits, EngineShadow, Whereabouts
from driftloop_rollout.machine import Rollout
from driftloop_rollout.margins import Margins
from driftloop_rollout.pairs import PairMetric, PairTrial
from driftloop_rollout.shadow_plan import Compared
from driftloop_rollout.shadow_stage import SHARE, ShadowStage
from driftloop_rollout.verdict import Rule
from driftloop_settings import Settings
from driftloop_store.store import Store

REPLAYED = 1_000
"""The most conversations newer than its training data that a candidate answers."""


def conversations_compared(
    spec: ModelSpec, settings: Settings, store: Store, margins: Margins
) -> Compared:
    """Ratings are of the champion's answers, so nothing is paired by them. Raises Rejected if
    nothing compares two answers."""
    losses = _losses(spec, settings, store)
    if margins.answers is None:
        raise Rejected("answers are not captured as they were given (options.capture)")
    paired = losses.compares or any(said.kind.reads == "answer" for said in spec.judged_by)
    if not paired and not spec.labels_depend_on_answer:
        why = "; ".join(losses.notes) or "options.scorer and options.judge name none"
        neither = "neither a scorer nor a judge"
        raise Rejected(f"nothing compares two answers to one conversation, {neither} ({why})")
    replayed = min(settings.rollout.shadow_rows, REPLAYED) if paired else 0
    return Compared(replayed, paired_measures, partial(conversations_begun, losses, margins))


def paired_measures(measures: Measures) -> Measures:
    """Those that pairs can show: a rating is of the answer that somebody got."""
    decisive = measures.decisive if measures.decisive and measures.decisive.by_answer else None
    return Measures(decisive, tuple(one for one in measures.others if one.by_answer))


def conversations_begun(losses: AnswerLosses, margins: Margins, plain: ShadowStage) -> ShadowStage:
    """plain: the stage of a model, judged by `paired_measures`."""
    assert margins.answers is not None
    errors, *measured = (metric.rule for metric in plain.trial.metrics)
    compared = []
    if losses.judge is not None:
        compared.append(
            Rule(JUDGE, margins.quality, True, GUARD_PROOF * margins.quality, share=SHARE)
        )
    decisive, of = losses.scorer is not None, "with options.scorer" if losses.scorer else ""
    rule = Rule(
        FORMAT, margins.answers, decisive, GUARD_PROOF * margins.answers, share=SHARE, of=of
    )
    alone = not losses.compares and not measured
    rules = [*measured, *compared, rule, replace(errors, decisive=alone)]
    return replace(
        plain,
        trial=PairTrial(tuple(map(PairMetric.start, rules))),
        notes=(*plain.notes, *losses.notes),
    )


def opened(
    rollout: Rollout, spec: ModelSpec, settings: Settings, store: Store, _files: Files
) -> EngineShadow:
    """Raises Rejected if the scorer cannot be imported."""
    version, llm = rollout.candidate.version, settings.llm
    return EngineShadow(
        rollout.model,
        version,
        lambda: whereabouts(store, rollout.model, version),
        _losses(spec, settings, store),
        EngineLimits(max_tokens=llm.shadow_tokens, busy_above=llm.shadow_busy_above),
    )


def _losses(spec: ModelSpec, settings: Settings, store: Store) -> AnswerLosses:
    """Raises Rejected."""
    return answer_losses(spec, settings, store.monitor_states(spec.name).get(spec.name))


def whereabouts(store: Store, model: str, version: int) -> Whereabouts:
    deployment = store.deployment(model)
    if deployment is None or deployment.version(version) is None:
        return Whereabouts()
    loaded: LoadedVersions = store.loaded_versions(model)
    current = loaded.revision >= deployment.revision
    refused = loaded.failed.get(version, "") if current else ""
    return Whereabouts(loaded.addresses.get(version, ()), refused)
