"""The shadow of a language model: whether it is possible, what it compares, and where the candidate
is. Its engine answers, beside the champion (docs/adr/0061-language-models-in-the-shadow.md)."""

from dataclasses import replace

from driftloop_contracts.model import ModelSpec
from driftloop_contracts.replica import LoadedVersions
from driftloop_rollout.answer_losses import FORMAT, JUDGE, AnswerLosses, answer_losses
from driftloop_rollout.beside_quality import GUARD_PROOF
from driftloop_rollout.engine_shadow import EngineLimits, EngineShadow, Whereabouts
from driftloop_rollout.machine import Rollout
from driftloop_rollout.margins import Margins
from driftloop_rollout.pairs import PairMetric, PairTrial
from driftloop_rollout.shadow_stage import SHARE, ShadowStage
from driftloop_rollout.verdict import Rule
from driftloop_settings import Settings
from driftloop_store.store import Store

REPLAYED = 1_000
"""The most conversations newer than its training data that a candidate answers."""


def losses_of(spec: ModelSpec, settings: Settings, store: Store) -> AnswerLosses:
    """Raises Rejected."""
    return answer_losses(spec, settings, store.monitor_states(spec.name).get(spec.name))


def not_comparable(spec: ModelSpec, losses: AnswerLosses, margins: Margins) -> str:
    """Why answers cannot be compared in the shadow, or ""."""
    if margins.answers is None:
        return "answers are not captured as they were given (options.capture)"
    if losses.compares or spec.labels_depend_on_answer:
        return ""
    why = "; ".join(losses.notes) or "options.scorer and options.judge name none"
    return f"nothing compares two answers to one conversation, neither a scorer nor a judge ({why})"


def conversations_begun(losses: AnswerLosses, margins: Margins, plain: ShadowStage) -> ShadowStage:
    """plain: the stage of a model without labels."""
    assert margins.answers is not None
    errors = plain.trial.metrics[0].rule
    compared = []
    if losses.judge is not None:
        compared.append(
            Rule(JUDGE, margins.quality, True, GUARD_PROOF * margins.quality, share=SHARE)
        )
    decisive, of = losses.scorer is not None, "with options.scorer" if losses.scorer else ""
    rule = Rule(
        FORMAT, margins.answers, decisive, GUARD_PROOF * margins.answers, share=SHARE, of=of
    )
    rules = [*compared, rule, replace(errors, decisive=not losses.compares)]
    return replace(
        plain,
        trial=PairTrial(tuple(map(PairMetric.start, rules))),
        notes=(*plain.notes, *losses.notes),
    )


def opened(rollout: Rollout, spec: ModelSpec, settings: Settings, store: Store) -> EngineShadow:
    """Raises Rejected if the scorer cannot be imported."""
    version, llm = rollout.candidate.version, settings.llm
    return EngineShadow(
        rollout.model,
        version,
        lambda: whereabouts(store, rollout.model, version),
        losses_of(spec, settings, store),
        EngineLimits(max_tokens=llm.shadow_tokens, busy_above=llm.shadow_busy_above),
    )


def whereabouts(store: Store, model: str, version: int) -> Whereabouts:
    deployment = store.deployment(model)
    if deployment is None or deployment.version(version) is None:
        return Whereabouts()
    loaded: LoadedVersions = store.loaded_versions(model)
    current = loaded.revision >= deployment.revision
    refused = loaded.failed.get(version, "") if current else ""
    return Whereabouts(loaded.addresses.get(version, ()), refused)
