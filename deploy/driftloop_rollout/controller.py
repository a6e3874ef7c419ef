"""The role that drives rollouts: read → judge → save → execute, each safe to repeat.

A step is saved in the store before it is executed, and what replicas shall serve is derived from
what was saved (`traffic.desired`) on every tick: killed at any point, the next tick goes on. Saves
name the revision that was read, so an operator's command in between wins and the tick is repeated.
"""

import threading
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from functools import cache
from typing import Any

import structlog

from driftloop_contracts.clock import Clock, system_clock
from driftloop_contracts.durations import in_words
from driftloop_contracts.errors import Conflict
from driftloop_contracts.health import Health, Unreported
from driftloop_contracts.model import Deployment
from driftloop_lake.port import ShadowedLake
from driftloop_rollout.aliases import start_aliases
from driftloop_rollout.commands import save
from driftloop_rollout.curve import extended
from driftloop_rollout.evidence import RolloutEvidence
from driftloop_rollout.machine import TRANSITIONS, Event, Rollout, State, apply
from driftloop_rollout.observer import Observer
from driftloop_rollout.outlook import Outlook, outlook
from driftloop_rollout.permission import Exposure, Move, Refusal, matured, refusal
from driftloop_rollout.shadow import Shadows
from driftloop_rollout.shadow_graph import OpenGraph
from driftloop_rollout.shadow_verdict import SHADOW_EVENTS, SHADOWED
from driftloop_rollout.shadow_watch import unseen_holdback, watched
from driftloop_rollout.traffic import baseless, desired, planned_steps, superseded, trimmed
from driftloop_rollout.verdict import Verdict, first_rung
from driftloop_settings import RolloutSettings, Settings
from driftloop_settings.this_process import ThisProcess
from driftloop_store import Store, StoreAway, await_store
from driftloop_store.cycle_health import SILENCE_S, CycleHealth
from driftloop_store.shares import opened_shares

log = structlog.get_logger()
WAITING = (State.PENDING, State.RUNNING, State.PAUSED, State.WATCHED)
"""Rollouts that stay in these wait for others than replicas."""
BUSY_S = 0.25
"""Between ticks while replicas are about to change what they serve."""


class Controller:
    """Drives every active rollout, one tick at a time."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        open_lake: Callable[[], ShadowedLake],
        health: Health | None = None,
        open_graph: OpenGraph | None = None,
        part: Callable[[Collection[str]], Collection[str]] = frozenset,
    ) -> None:
        self._part = part
        self._health = health or Unreported()
        self._settings = settings
        self._store = store
        self._observer = Observer(settings, store, lake := cache(open_lake))
        self._shadows = Shadows(settings, store, self._observer, lake, open_graph)

    def tick(self, now: datetime) -> bool:
        """One cycle over all rollouts; whether one of them is waiting for replicas to change."""
        busy = False
        active = self._store.active_rollouts()
        models = {record["model"] for record in active}
        self._health.keep_only({"", *models})
        mine = self._part(models)
        active = [record for record in active if record["model"] in mine]
        self._shadows.keep_only([r["id"] for r in active if r["state"] in SHADOWED])
        for record in active:
            try:
                state = self._drive(Rollout.from_record(record), now)
                waits = state is State.SHADOW and not self._shadows.is_busy(record["id"])
                busy = busy or not (waits or state in WAITING)
                self._health.succeeded(record["model"])
            except Conflict as conflict:
                log.info("rollout.retried", rollout_id=record["id"], reason=str(conflict))
                busy = True
            except StoreAway:
                raise
            except Exception as error:  # a lake that is away has many faces: try again
                self._health.failed(error, record["model"])
        return busy

    def _drive(self, rollout: Rollout, now: datetime) -> State:
        """Continue until there is nothing to do but wait."""
        while (after := self._next(rollout, now)) is not None:
            moved = len(after.history) > len(rollout.history)
            rollout = Rollout.from_record(save(self._store, after, rollout))
            if moved:
                last = rollout.history[-1]
                log.info(
                    f"rollout.{last.event}",
                    rollout_id=rollout.id,
                    model=rollout.model,
                    state=rollout.state,
                    weight=rollout.weight,
                    reason=last.reason,
                )
            if rollout.finished or not moved:
                break
        return rollout.state

    def _next(self, rollout: Rollout, now: datetime) -> Rollout | None:
        """Execute what was saved, then the rollout after what is to happen next, if anything."""
        deployment = self._store.deployment(rollout.model)
        if self._expired(rollout, deployment, now):
            return apply(rollout, Event.EXPIRE, now, "no verdict before the deadline")
        if deployment is None:
            over = (rollout.state, Event.SUPERSEDE) not in TRANSITIONS
            event = Event.SETTLE if over else Event.SUPERSEDE
            return apply(rollout, event, now, "the model is not deployed any more")
        if superseded(rollout, deployment):
            reason = f"version {deployment.split.stable} was made the stable one by somebody else"
            return apply(rollout, Event.SUPERSEDE, now, reason)
        deployment = self._execute(deployment, desired(rollout, deployment))
        match rollout.state:
            case State.PENDING:
                return self._adopt(rollout, deployment, now)
            case State.SHADOW:
                return self._shadow(rollout, deployment, now)
            case State.LOADING:
                return self._load(rollout, deployment, now)
            case State.RUNNING | State.PAUSED:
                return self._judge(rollout, deployment, now)
            case State.WATCHED:
                return self._watch(rollout, deployment, now)
            case State.PROMOTING:
                return self._promote(rollout, deployment, now)
            case _:
                if self._served(deployment) is None:
                    return None
                return apply(rollout, Event.SETTLE, now, rollout.reason)

    def _rules(self, deployment: Deployment) -> RolloutSettings:
        """Those of the model's policy."""
        return self._settings.for_model(deployment.model).rollout

    def _expired(self, rollout: Rollout, deployment: Deployment | None, now: datetime) -> bool:
        """Whether the deadline passed, in a state that has one."""
        rules = self._rules(deployment) if deployment else self._settings.rollout
        limit = timedelta(seconds=rules.deadline_s)
        deadline = rollout.deadline_at or rollout.requested_at + limit
        return now > deadline and (rollout.state, Event.EXPIRE) in TRANSITIONS

    def _execute(self, deployment: Deployment, wanted: Deployment) -> Deployment:
        return deployment if wanted == deployment else self._store.put_deployment(wanted)

    def _served(self, deployment: Deployment) -> set[int] | None:
        """The versions that replicas hold; None until they serve this revision."""
        loaded = self._store.loaded_versions(deployment.model.name)
        if loaded.revision < deployment.revision:
            return None
        return set(loaded.versions)

    def _adopt(self, rollout: Rollout, deployment: Deployment, now: datetime) -> Rollout | None:
        champion = deployment.version(deployment.split.stable)
        if champion is None or champion.version == rollout.candidate.version:
            reason = f"version {rollout.candidate.version} is the stable one already"
            return apply(rollout, Event.SUPERSEDE, now, reason)
        if baseless(rollout.candidate, deployment):
            reason = f"its base, version {rollout.candidate.base}, is not served any more"
            return apply(rollout, Event.SUPERSEDE, now, reason)
        rules = self._rules(deployment)
        if other := self._before(rollout, rules):
            waits = replace(rollout, reason=f"waits for the rollout of {other}, of its group")
            return waits if waits != rollout else None
        planned = replace(
            rollout,
            holdback=rules.holdback if deployment.model.task else 0.0,
            steps=planned_steps(rules.steps),
            # If it comes back after a promotion, its spec does, too.
            champion=replace(champion, spec=champion.spec or deployment.model),
            sticky_s=None if rules.sticky_s == "forever" else rules.sticky_s,
            deadline_at=now + timedelta(seconds=rules.deadline_s),
        )
        return apply(planned, Event.ADOPT, now, rollout.reason)

    def _shadow(self, rollout: Rollout, deployment: Deployment, now: datetime) -> Rollout | None:
        step = self._shadows.step(rollout, deployment, now)
        after = replace(rollout, shadow=step.stage)
        if step.outcome == "hold":
            held = replace(after, reason=step.reason)
            return held if held != rollout else None
        if step.outcome == "harm":
            after = replace(after, verdict=step.word)
        return apply(after, SHADOW_EVENTS[step.outcome], now, step.reason, numbers=step.numbers)

    def close(self) -> None:
        """End the processes of shadows."""
        self._shadows.keep_only(())

    def _before(self, rollout: Rollout, rules: RolloutSettings) -> str | None:
        """The model of the same group whose rollout is under way, or was requested earlier."""
        if rules.group is None:
            return None
        for record in self._store.active_rollouts():
            other = Rollout.from_record(record)
            deployment = self._store.deployment(other.model)
            if other.id == rollout.id or deployment is None:
                continue
            first = (other.requested_at, other.id) < (rollout.requested_at, rollout.id)
            if self._rules(deployment).group == rules.group and (
                other.state is not State.PENDING or first
            ):
                return other.model
        return None

    def _load(self, rollout: Rollout, deployment: Deployment, now: datetime) -> Rollout | None:
        served, rules = self._served(deployment), self._rules(deployment)
        if served is not None and rollout.candidate.version in served:
            if no := refusal(rollout, rules, "canary", "undecided", now):
                return _held(rollout, rollout, no)
            rollout = replace(
                rollout, evidence=self._observer.started(rollout, deployment.model, now)
            )
            step = self._first_step(rollout, rules)
            skipped = f"; skipped {step} step(s) too thin for this traffic" if step else ""
            begun = replace(rollout, step=step)
            if begun.evidence is not None:
                told = self._outlook(begun, begun.evidence, deployment, now)
                begun, skipped = replace(begun, outlook=told), f"{skipped}; {told.sentence}"
            return apply(begun, Event.LOADED, now, "replicas hold the candidate" + skipped)
        why = self._refused(deployment, rollout.candidate.version)
        if why and rollout.candidate.base is not None:
            # An adapter is checked before it is loaded; it will not fit its base later either.
            return apply(rollout, Event.HARM, now, f"replicas could not load the candidate: {why}")
        since = rollout.history[-1].at
        if now - since > timedelta(seconds=rules.load_timeout_s):
            reason = "replicas could not load the candidate in time" + (f": {why}" if why else "")
            return apply(rollout, Event.HARM, now, reason)
        return None

    def _refused(self, deployment: Deployment, version: int) -> str | None:
        """Why replicas that have come to this revision could not load a version."""
        loaded = self._store.loaded_versions(deployment.model.name)
        if loaded.revision < deployment.revision:
            return None
        return loaded.failed.get(version)

    def _first_step(self, rollout: Rollout, rules: RolloutSettings) -> int:
        if rollout.evidence is None:
            return 0
        metric, baseline = rollout.evidence.trial.metrics[0], rollout.evidence.baseline
        per_s = baseline.rows_per_s if metric.rule.name == "quality" else baseline.requests_per_s
        return first_rung(metric.rule, rollout.rungs, metric.q, per_s, rules.deadline_s)

    def _promote(self, rollout: Rollout, deployment: Deployment, now: datetime) -> Rollout | None:
        served = self._served(deployment)
        if served is None:
            return None
        if rollout.candidate.version not in served:
            return apply(rollout, Event.HARM, now, "replicas do not hold the promoted version")
        keep = self._settings.serving.keep_previous
        self._execute(deployment, trimmed(rollout, deployment, keep))
        return apply(rollout, Event.SETTLE, now, rollout.reason)

    def _judge(self, rollout: Rollout, deployment: Deployment, now: datetime) -> Rollout | None:
        served = self._served(deployment) is not None
        seen = self._observer.look(rollout, deployment.model, now, served=served)
        if seen is None:
            why = self._observer.unmeasured(rollout)
            reason = "waiting for the champion's traffic to compare with"
            held = replace(rollout, reason=f"inconclusive: {why}" if why else reason)
            return held if held != rollout else None
        verdict = seen.trial.judge(rollout.step, len(rollout.rungs))
        judged = replace(
            rollout,
            evidence=seen,
            awaits="",
            outlook=self._outlook(rollout, seen, deployment, now),
            curve=extended(rollout.curve, seen.trial.metrics, now),
        )
        if verdict.action == "roll_back":
            judged = replace(judged, verdict=verdict.word)
            return apply(judged, Event.HARM, now, verdict.reason, numbers=verdict.numbers)
        rules = self._rules(deployment)
        doubt = self._doubt(rollout, seen, verdict, rules)
        if rollout.halted_at is None and (spent := Exposure.of(seen).over(rules)):
            return replace(judged, halted_at=now, reason=f"gets no more traffic: {spent}")
        if rollout.halted_at is not None and verdict.action != "promote":
            if matured(seen, rollout.halted_at, self._observer.age_s(deployment.model, seen), now):
                return apply(judged, Event.EXPIRE, now, "its exposure was spent without a verdict")
            doubt = "; ".join(["it gets no more traffic before a verdict", *filter(None, [doubt])])
        if rollout.state is State.PAUSED or doubt or verdict.action == "hold":
            late = judged.outlook.late if judged.outlook else ""
            held = replace(judged, reason="; ".join(r for r in (doubt, verdict.reason, late) if r))
            return held if held != rollout else None
        judged = replace(judged, verdict=verdict.word)
        move: Move = "advance" if verdict.action == "advance" else "promote"
        if no := refusal(rollout, rules, move, verdict.word, now):
            return _held(rollout, judged, no)
        event = Event.ADVANCE if move == "advance" else Event.PROVE
        if event is Event.PROVE and rollout.holdback and seen.quality_is_judged:
            event = Event.WATCH
            judged = replace(judged, evidence=seen.watching(now))
            judged = unseen_holdback(judged, deployment.model, now)
        return apply(judged, event, now, verdict.reason, numbers=verdict.numbers)

    def _watch(self, rollout: Rollout, deployment: Deployment, now: datetime) -> Rollout | None:
        """The promotion stands unless the labels that are still to come show harm."""
        rules, since = self._rules(deployment), rollout.stepped_at or now
        limit = timedelta(seconds=rules.deadline_s)
        if rollout.watch is not None:
            step = self._shadows.watch(rollout, deployment, now)
            learned = step.stage.labels if step.stage else None
            age_s = self._observer.label_age_s(deployment.model, learned)
            return watched(rollout, step, age_s, limit, rules.holdback, now)
        served = self._served(deployment) is not None
        seen = self._observer.look(rollout, deployment.model, now, served=served)
        if seen is None:
            return None
        after = replace(rollout, evidence=seen)
        age_s = self._observer.age_s(deployment.model, seen)
        verdict = seen.trial.judge(len(rollout.rungs) - 1, len(rollout.rungs))
        if verdict.action == "roll_back":
            after = replace(after, verdict=verdict.word)
            reason = f"after the promotion, {verdict.reason}"
            return apply(after, Event.HARM, now, reason, numbers=verdict.numbers)
        # The labels of as long a time after the promotion as labels take.
        first = since + timedelta(seconds=age_s or 0.0)
        if matured(seen, first, age_s, now) or now - since > limit:
            reason = f"no harm was shown by the labels of the promotion; {verdict.reason}"
            return apply(after, Event.PROVE, now, reason, numbers=verdict.numbers)
        takes = f", about {in_words(2 * age_s)} in all" if age_s else ""
        reason = f"promoted; version {rollout.champion and rollout.champion.version} keeps "
        reason += f"{rollout.holdback:.0%} until the labels of the promotion have come{takes}"
        after = replace(after, reason=reason)
        return after if after != rollout else None

    def _outlook(
        self, rollout: Rollout, seen: RolloutEvidence, deployment: Deployment, now: datetime
    ) -> Outlook:
        deadline = rollout.deadline_at or now
        age_s = self._observer.said_age_s(deployment.model)
        return outlook(seen, rollout.rungs, rollout.step, now, deadline, age_s)

    def _doubt(
        self, rollout: Rollout, seen: RolloutEvidence, verdict: Verdict, rules: RolloutSettings
    ) -> str:
        """Why a good verdict is not acted upon yet, or nothing."""
        missing = self._observer.unaccounted(rollout) - seen.unaccounted
        if missing > 0:
            return f"inconclusive: {missing} served rows are not accounted for"
        if seen.problem:
            return f"inconclusive: {seen.problem}"
        if not seen.saw_step:
            return f"no traffic seen at {rollout.weight:.0%} yet"
        if verdict.action == "promote" and not (seen.quality_is_judged or rules.promote_unlabelled):
            return "quality is not judged (the model has no `task`): an operator has to promote"
        return seen.waiting if verdict.action == "hold" else ""


def _held(before: Rollout, now: Rollout, no: Refusal) -> Rollout | None:
    held = replace(now, reason=no.why, awaits=no.awaits)
    return held if held != before else None


def run(settings: Settings, stop: threading.Event, clock: Clock = system_clock) -> None:
    """The role `rollout`: until stopped, see the module."""
    store = await_store(settings.store_url, stop)
    if store is None:
        return

    def open_lake() -> ShadowedLake:
        from driftloop_lake.delta_lake import open_lake

        return open_lake(settings)

    @cache
    def open_registry() -> Any:
        from driftloop_registry.mlflow_registry import open_registry

        return open_registry(settings)

    process = ThisProcess.of(settings)
    registrar = start_aliases(store, open_registry, stop, process)
    health = CycleHealth(store, "rollout", clock, silence_s=SILENCE_S, process=process)
    log.info("rollout.started", interval_s=settings.rollout.interval_s)
    busy, usual_s = False, settings.rollout.interval_s
    with opened_shares(settings, store, "rollout", patience_s=SILENCE_S) as shares:
        controller = Controller(settings, store, open_lake, health, part=shares.of)
        while not stop.wait(min(BUSY_S, usual_s) if busy else usual_s):
            with suppress(StoreAway):  # it is tried again after the usual interval
                busy = False
                with health.cycle():
                    busy = controller.tick(clock())
        controller.close()
    registrar.join(timeout=5.0)
    health.ended()
    store.close()
