"""From a standing to a decision: gather the evidence, ask the policy, write down what it says."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from datetime import datetime

import structlog

from driftloop_contracts.judgement import Decision
from driftloop_contracts.kind import LANGUAGE, TABULAR, ModelKind
from driftloop_contracts.model import Deployment, ModelSpec
from driftloop_contracts.retrain import Retrain
from driftloop_monitoring.state.monitor_state import MonitorState
from driftloop_monitoring.statistics.performance import LossBaseline
from driftloop_monitoring.statistics.windows import stable_id
from driftloop_monitoring.watch.trigger import Policy, Ruling, TriggerEvidence, due, evaluate
from driftloop_settings import Settings
from driftloop_store.store import Store

log = structlog.get_logger()


def policy_of(settings: Settings, spec: ModelSpec) -> Policy:
    return _POLICIES[spec.kind](settings)


def _by_labels(settings: Settings) -> Policy:
    t, margin = settings.trigger, settings.monitoring.performance_margin
    return Policy(t.cooldown_s, t.min_fresh_labels, margin, t.schedule, t.timezone)


def _by_ratings(settings: Settings) -> Policy:
    t, llm = settings.trigger, settings.llm
    return Policy(
        t.cooldown_s,
        llm.min_ratings,
        llm.rating_margin,
        t.schedule,
        t.timezone,
        llm.min_corrections,
    )


_POLICIES: Mapping[ModelKind, Callable[[Settings], Policy]] = {
    TABULAR: _by_labels,
    LANGUAGE: _by_ratings,
}


def evidence_of(
    store: Store,
    deployment: Deployment,
    standing: MonitorState,
    baseline: LossBaseline | None,
    policy: Policy,
    now: datetime,
    corrections: int = 0,
) -> TriggerEvidence:
    """What the store and the standing say at `now`. `corrections`: see `trigger.Evidence`."""
    name = deployment.model.name
    retrains = store.retrains(name, 10)
    active = next((r.id for r in retrains if r.active), None)
    ended = (r.ended_at or r.at for r in retrains if not r.active)
    rollout = next((r["id"] for r in store.active_rollouts() if r["model"] == name), None)
    alert = standing.test.alert
    scheduled = None
    if policy.schedule is not None:
        scheduled = due(policy.schedule, policy.timezone, standing.schedule_checked, now)
    return TriggerEvidence(
        champion=standing.version,
        retrainable=deployment.model.recipe is not None,
        alert=alert is not None,
        change_at=alert.at if alert else None,
        rise=alert.mean_loss - baseline.mean if alert and baseline else 0.0,
        labels_since_change=alert.rows if alert else 0,
        labels=standing.test.rows,
        broken=standing.broken,
        drifted=standing.drifted,
        active_retrain=active,
        active_rollout=rollout,
        last_retrain_at=max(ended, default=None),
        schedule_due=scheduled,
        corrections=corrections,
    )


def rule(
    store: Store,
    deployment: Deployment,
    standing: MonitorState,
    baseline: LossBaseline | None,
    policy: Policy,
    now: datetime,
    corrections: int = 0,
) -> MonitorState:
    """Decide, and act on it; returns the new standing.

    A decision is recorded when the policy says to retrain, and when it waits for another reason
    than last time. A run of the schedule is used up by the look at it, whatever came of it.
    """
    evidence = evidence_of(store, deployment, standing, baseline, policy, now, corrections)
    ruling = evaluate(evidence, policy, now)
    if ruling is None:
        return replace(standing, topic="")
    topic = f"{ruling.trigger}/{ruling.topic}"
    if ruling.trigger == "schedule":
        topic += f"/{evidence.schedule_due}"
        standing = replace(standing, schedule_checked=now)
    if ruling.verdict == "wait" and topic == standing.topic:
        return standing
    _write(store, deployment.model.name, standing, ruling, evidence, policy, now)
    return replace(standing, topic=topic, decisions=standing.decisions + 1)


def _write(
    store: Store,
    model: str,
    standing: MonitorState,
    ruling: Ruling,
    evidence: TriggerEvidence,
    policy: Policy,
    now: datetime,
) -> None:
    decision_id = stable_id(model, "decision", standing.decisions, ruling.trigger, ruling.topic)
    store.add_decision(
        Decision(
            decision_id=decision_id,
            model=model,
            at=now,
            trigger=ruling.trigger,
            verdict=ruling.verdict,
            reason=ruling.reason,
            evidence=evidence.to_dict(),
            policy=asdict(policy),
        )
    )
    log.info("monitor.decision", model=model, verdict=ruling.verdict, reason=ruling.reason)
    if ruling.verdict != "retrain":
        return
    store.request_retrain(
        Retrain(
            id=stable_id(decision_id, "retrain"),
            model=model,
            at=now,
            trigger=ruling.trigger,
            reason=ruling.reason,
            decision_id=decision_id,
            champion=standing.version,
            change_at=evidence.change_at,
        )
    )
