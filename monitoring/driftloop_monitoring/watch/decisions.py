"""Turns the monitor's state into a decision: collects the evidence, applies the policy, records and
acts."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from datetime import datetime

import structlog

from driftloop_contracts.judgement import Decision
from driftloop_contracts.kind import LANGUAGE, TABULAR, ModelKind
from driftloop_contracts.model import Deployment, ModelSpec
from driftloop_contracts.retrain import Retrain
from driftloop_evaluation.measures import QUALITY
from driftloop_monitoring.state.monitor_state import MonitorState
from driftloop_monitoring.statistics.performance import LossBaseline
from driftloop_monitoring.statistics.windows import stable_id
from driftloop_monitoring.watch.trigger import (
    TriggerDecision,
    TriggerEvidence,
    TriggerPolicy,
    due,
    evaluate,
)
from driftloop_settings import Settings
from driftloop_store.store import Store

log = structlog.get_logger()


def trigger_policy(settings: Settings, spec: ModelSpec) -> TriggerPolicy:
    return _POLICIES[spec.kind](settings)


def _by_labels(settings: Settings) -> TriggerPolicy:
    t, margin = settings.trigger, settings.monitoring.performance_margin
    return TriggerPolicy(t.cooldown_s, t.min_fresh_labels, margin, t.schedule, t.timezone)


def _by_ratings(settings: Settings) -> TriggerPolicy:
    t, llm = settings.trigger, settings.llm
    return TriggerPolicy(
        t.cooldown_s,
        llm.min_ratings,
        llm.rating_margin,
        t.schedule,
        t.timezone,
        llm.min_corrections,
    )


_POLICIES: Mapping[ModelKind, Callable[[Settings], TriggerPolicy]] = {
    TABULAR: _by_labels,
    LANGUAGE: _by_ratings,
}


def evidence_of(
    store: Store,
    deployment: Deployment,
    state: MonitorState,
    baseline: LossBaseline | None,
    policy: TriggerPolicy,
    now: datetime,
    corrections: int = 0,
) -> TriggerEvidence:
    """Collect the evidence from the store and the state at `now`. `corrections`: see
    `TriggerEvidence`."""
    name = deployment.model.name
    retrains = store.retrains(name, 10)
    active = next((r.id for r in retrains if r.active), None)
    ended = (r.ended_at or r.at for r in retrains if not r.active)
    rollout = next((r["id"] for r in store.active_rollouts() if r["model"] == name), None)
    measure, alert = state.risen or (QUALITY, None)
    # Of a guardrail or slice few rows count; a retrain needs rows of all kinds.
    others = state.tests.get(measure)
    share = 1.0 if others is None else others.rows / max(state.test.rows, 1)
    scheduled = None
    if policy.schedule is not None:
        scheduled = due(policy.schedule, policy.timezone, state.schedule_checked, now)
    return TriggerEvidence(
        champion=state.version,
        retrainable=deployment.model.recipe is not None,
        alert=alert is not None,
        change_at=alert.at if alert else None,
        rise=alert.mean_loss - baseline.mean if alert and baseline else 0.0,
        labels_since_change=round(alert.rows / max(share, 1e-9)) if alert else 0,
        labels=state.test.rows,
        broken=state.broken,
        drifted=state.drifted,
        active_retrain=active,
        active_rollout=rollout,
        last_retrain_at=max(ended, default=None),
        schedule_due=scheduled,
        corrections=corrections,
    )


def decide(
    store: Store,
    deployment: Deployment,
    state: MonitorState,
    baseline: LossBaseline | None,
    policy: TriggerPolicy,
    now: datetime,
    corrections: int = 0,
) -> MonitorState:
    """Decide, act on the decision, and return the next state.

    A decision is recorded when the policy says to retrain, and when it waits for another reason
    than last time. A scheduled run counts as handled once it was evaluated, whatever the result.
    """
    evidence = evidence_of(store, deployment, state, baseline, policy, now, corrections)
    decision = evaluate(evidence, policy, now)
    if decision is None:
        return replace(state, topic="")
    topic = f"{decision.trigger}/{decision.topic}"
    if decision.trigger == "schedule":
        topic += f"/{evidence.schedule_due}"
        state = replace(state, schedule_checked=now)
    if decision.verdict == "wait" and topic == state.topic:
        return state
    _write(store, deployment.model.name, state, decision, evidence, policy, now)
    return replace(state, topic=topic, decisions=state.decisions + 1)


def _write(
    store: Store,
    model: str,
    state: MonitorState,
    decision: TriggerDecision,
    evidence: TriggerEvidence,
    policy: TriggerPolicy,
    now: datetime,
) -> None:
    decision_id = stable_id(model, "decision", state.decisions, decision.trigger, decision.topic)
    store.add_decision(
        Decision(
            decision_id=decision_id,
            model=model,
            at=now,
            trigger=decision.trigger,
            verdict=decision.verdict,
            reason=decision.reason,
            evidence=evidence.to_dict(),
            policy=asdict(policy),
        )
    )
    log.info("monitor.decision", model=model, verdict=decision.verdict, reason=decision.reason)
    if decision.verdict != "retrain":
        return
    store.request_retrain(
        Retrain(
            id=stable_id(decision_id, "retrain"),
            model=model,
            at=now,
            trigger=decision.trigger,
            reason=decision.reason,
            decision_id=decision_id,
            champion=state.version,
            change_at=evidence.change_at,
        )
    )
