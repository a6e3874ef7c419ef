"""Lets a candidate answer rows that the champion has answered, before it gets any traffic.

The rows come from the lake: first those with a label that are newer than the candidate's training
data (replay), then live ones as they arrive. So nothing is added to the way of an answer, and a
shadow that crashes, hangs or eats memory is a process on its own (docs/adr/0043-shadow-first.md).
A language model's candidate answers in its engine instead, when that has time for it
(docs/adr/0061-language-models-in-the-shadow.md).
A step never waits: it takes what has been answered, asks for more, and compares what has labels.
After work on live rows it rests if the machine is busy, so that it takes `rollout.shadow_cpu` of a
core at most.
Delivery: answers → archived in the lake, with a mark → the rollout's record. A crash between the
last two has rows answered again, which the mark keeps from being archived again.
"""

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import numpy as np
import pyarrow as pa
import structlog

from driftloop_artifacts import open_artifacts
from driftloop_contracts.capture import parse_capture
from driftloop_contracts.errors import Conflict, Rejected
from driftloop_contracts.model import Deployment, ModelSpec
from driftloop_evaluation.agreement import agreeing
from driftloop_evaluation.labels import arrived
from driftloop_lake.port import Pin, ShadowedLake
from driftloop_rollout.evidence import MIN_PAST_REQUESTS
from driftloop_rollout.kind_shadow import SHADOWS
from driftloop_rollout.label_delay import due, mature_until
from driftloop_rollout.machine import Rollout
from driftloop_rollout.machine_load import MachineLoad
from driftloop_rollout.observer import PAST_ROWS, Observer
from driftloop_rollout.shadow_graph import OpenGraph, ShadowGraph
from driftloop_rollout.shadow_order import (
    LOOK_AGAIN,
    ORDER_ROWS,
    Draw,
    before,
    complete_rows,
    ordered,
    rows_of,
)
from driftloop_rollout.shadow_pairs import bet, complete_until
from driftloop_rollout.shadow_plan import begun, check_possible, replayed_since
from driftloop_rollout.shadow_process import Answered, ShadowDied, ShadowRefused
from driftloop_rollout.shadow_rows import FAILED, archived, unanswerable
from driftloop_rollout.shadow_stage import ShadowStage
from driftloop_rollout.shadow_verdict import ShadowStep, judged
from driftloop_rollout.shadow_watch import not_watchable, watch_judged, watch_view
from driftloop_settings import RolloutSettings, Settings
from driftloop_store.store import Store

log = structlog.get_logger()

PAIR_ROWS = 20_000


@dataclass(slots=True)
class Running:
    """A rollout's process, and the order that it works on: the rows, and from and up to which time
    they are all that there were. cpu_s: what the last step and order took, which is rested for."""

    graph: ShadowGraph
    cpu_s: float = 0.0
    rests_until: datetime | None = None
    asked: pa.Table | None = None
    since: datetime | None = None
    until: datetime | None = None


class Shadows:
    """The shadows of all rollouts of the role. Not thread-safe."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        observer: Observer,
        open_lake: Callable[[], ShadowedLake],
        open_graph: OpenGraph | None = None,
    ) -> None:
        self._settings = settings
        self._store = store
        self._observer = observer
        self._open_lake = open_lake
        self._files = open_artifacts(settings).use
        self._open_graph = open_graph or self._opened
        self._load = MachineLoad()
        self._running: dict[str, Running] = {}
        self._waits: dict[tuple[str, str], datetime] = {}

    def keep_only(self, rollouts: Collection[str]) -> None:
        """End the processes of other rollouts."""
        for id_ in self._running.keys() - set(rollouts):
            self._running.pop(id_).graph.close()
        self._waits = {key: at for key, at in self._waits.items() if key[0] in rollouts}

    def is_busy(self, rollout_id: str) -> bool:
        """Whether answers are under way for which nothing rests."""
        running = self._running.get(rollout_id)
        return running is not None and running.asked is not None and not running.rests_until

    def step(self, rollout: Rollout, deployment: Deployment, now: datetime) -> ShadowStep:
        """Take a step. With an outcome the candidate's process ends."""
        found = self._step(rollout, deployment, now)
        if found.outcome != "hold":
            self._end(rollout.id)
        return found

    def _step(self, rollout: Rollout, deployment: Deployment, now: datetime) -> ShadowStep:
        spec = deployment.model
        rules = self._settings.for_model(spec).rollout
        stage = rollout.shadow
        if stage is None:
            started = self._started(rollout, spec, rules, now)
            if isinstance(started, ShadowStep):
                return started
            stage = started
        found = self._moved(rollout, stage, spec, rules, now)
        return found if isinstance(found, ShadowStep) else judged(found, rules, now)

    def watch(self, rollout: Rollout, deployment: Deployment, now: datetime) -> ShadowStep:
        """Take a step after the promotion: the former champion answers rows of the new one. It is
        `harm` if that is the worse one."""
        spec = deployment.model
        view, rules = watch_view(rollout), self._settings.for_model(spec).rollout
        assert view.shadow is not None
        moved = self._moved(view, view.shadow, spec, rules, now, "the former champion")
        found = not_watchable(moved) if isinstance(moved, ShadowStep) else watch_judged(moved)
        if found.outcome != "hold":
            self._end(rollout.id)
        return found

    def _moved(
        self,
        rollout: Rollout,
        stage: ShadowStage,
        spec: ModelSpec,
        rules: RolloutSettings,
        now: datetime,
        who: str = "the candidate",
    ) -> ShadowStage | ShadowStep:
        """With further answers of `who` and pairs, or why there are none any more."""
        running = self._running.get(rollout.id)
        if running is not None and running.rests_until is not None and now < running.rests_until:
            return stage
        began = time.process_time()
        try:
            stage = self._answer(rollout, stage, spec, rules, now)
        except (ShadowRefused, Rejected) as error:
            return ShadowStep(stage, "skip", f"{who} cannot answer in the shadow: {error}")
        except ShadowDied as error:
            self._end(rollout.id)
            stage = replace(stage, died=stage.died + 1)
            log.warning("rollout.shadow_died", rollout_id=rollout.id, reason=str(error))
            if stage.died >= SHADOWS[spec.kind].most_deaths:
                why = f"{stage.died} times {who} did not survive the shadow: {error}"
                hint = " (rollout.shadow_memory_bytes)" if "memory" in str(error) else ""
                return ShadowStep(stage, "harm", why + hint, "worse")
        stage = self._compare(rollout, stage, spec, rules, now)
        if (running := self._running.get(rollout.id)) is not None:
            spent = time.process_time() - began + running.cpu_s
            rest = timedelta(seconds=spent / rules.shadow_cpu)
            rests = stage.answered_until >= stage.began
            rests = self._load.busy() >= rules.shadow_busy_from and rests
            running.cpu_s, running.rests_until = 0.0, now + rest if rests else None
        return stage

    def _started(
        self, rollout: Rollout, spec: ModelSpec, rules: RolloutSettings, now: datetime
    ) -> ShadowStage | ShadowStep:
        champion = _champion(rollout)
        margins, settings = self._observer.margins(spec), self._settings.for_model(spec)
        try:
            check_possible(rollout.candidate, spec, rules, self._files)
            compared = SHADOWS[spec.kind].compared(spec, settings, self._store, margins)
        except Rejected as error:
            return ShadowStep(None, "skip", f"no shadow: {error}")
        lake = self._open_lake()
        pin = lake.pin(rollout.model)
        past = None
        if pin is not None:
            past = lake.labelled(
                rollout.model, pin, newest=PAST_ROWS, versions=(champion,), only_labelled=False
            )
        if pin is None or past is None or past.num_rows < MIN_PAST_REQUESTS:
            if now - rollout.history[-1].at > timedelta(seconds=rules.shadow_s):
                why = f"no shadow: the champion has too few rows after {rules.shadow_s:g} s"
                return ShadowStep(None, "skip", why)
            return ShadowStep(None, "hold", "waiting for the champion's rows to answer again")
        if why := unanswerable(spec, rollout.candidate.signature, past.column_names):
            return ShadowStep(None, "skip", f"no shadow: {why}")
        try:
            measures = self._observer.measures(rollout, spec, past)
        except Rejected as error:
            return ShadowStep(None, "skip", f"no shadow: {error}")
        since, note = replayed_since(
            *(lake, rollout.model, pin, champion, rollout.candidate),
            *(compared.replayed, now, self._files),
        )
        stage = begun(spec, compared.paired(measures), margins, past, since, now, (note,))
        return compared.begun(stage)

    def _answer(
        self,
        rollout: Rollout,
        stage: ShadowStage,
        spec: ModelSpec,
        rules: RolloutSettings,
        now: datetime,
    ) -> ShadowStage:
        """Take what was answered, archive it, and ask for more. Raises ShadowRefused or
        ShadowDied."""
        running = self._running.get(rollout.id)
        if running is None:
            running = self._running[rollout.id] = Running(self._open_graph(rollout, spec))
        found = running.graph.answered()
        if found is not None and running.asked is not None and running.until is not None:
            rows, since, until = running.asked, running.since, running.until
            running.cpu_s = found.cpu_s
            running.asked = None
            if since == stage.answered_until:  # else the record was not saved: they are asked again
                stage = self._took(rollout, stage, spec, rows, found, until)
        if running.asked is None and running.graph.idle:
            stage = self._ask(rollout, stage, spec, rules, running, now)
        return stage

    def _opened(self, rollout: Rollout, spec: ModelSpec) -> ShadowGraph:
        settings = self._settings.for_model(spec)
        return SHADOWS[spec.kind].opened(rollout, spec, settings, self._store, self._files)

    def _ask(
        self,
        rollout: Rollout,
        stage: ShadowStage,
        spec: ModelSpec,
        rules: RolloutSettings,
        running: Running,
        now: datetime,
    ) -> ShadowStage:
        if self._is_waiting(rollout.id, "ask", now):
            return stage
        lake, since = self._open_lake(), stage.answered_until
        pin = lake.pin(rollout.model)
        if pin is None:
            return stage
        most = rows_of(rollout.candidate, ORDER_ROWS)
        rows = lake.labelled(
            rollout.model,
            pin,
            since=since,
            oldest=most,
            versions=(_champion(rollout),),
            only_labelled=False,
        )
        rows, until = complete_rows(rows, since, now)
        if until == since:
            self._wait(rollout.id, "ask", now)
            return stage
        draw = Draw(
            rules.shadow_share, stage.began, self._settings.for_model(spec).llm.shadow_tokens
        )
        rows, until = ordered(rows, until, rollout.candidate, spec.kind, draw)
        if not rows.num_rows:
            return replace(stage, answered_until=until)
        running.graph.ask(rows)
        running.asked, running.since, running.until = rows, since, until
        return stage

    def _took(
        self,
        rollout: Rollout,
        stage: ShadowStage,
        spec: ModelSpec,
        rows: pa.Table,
        found: Answered,
        until: datetime,
    ) -> ShadowStage:
        if found.kept is not None:
            stage = replace(stage, dropped=stage.dropped + int((~found.kept).sum()))
            rows = rows.filter(pa.array(found.kept))
        failed = np.asarray(found.answers[FAILED], dtype=bool)
        n, version = rows.num_rows, rollout.candidate.version
        changed = parse_capture(spec.options).columns  # what may not be kept as it was answered
        answers = archived(rows, found.answers, version, changed)
        self._open_lake().shadows().append(rollout.model, rollout.id, answers, until)
        was_failed = ~np.asarray(rows["error"].is_null(), dtype=bool)
        first = np.asarray(rows["row"]) == 0
        both = ~(failed | was_failed)
        agreed = agreeing(spec, rows, answers)
        measures = stage.measured(spec)
        parts = [both, *(both & m.part.holds(rows) for m in measures if m.part is not None)]
        stage = stage.with_agreement([agreed[part] for part in parts])
        errors = failed[first].astype(np.float64), was_failed[first].astype(np.float64)
        return replace(
            stage.with_lengths(rows.filter(pa.array(both)), answers.filter(pa.array(both))),
            answered_until=until,
            trial=stage.trial.update({"errors": errors, **found.losses}),
            answered=stage.answered + n,
            failed=stage.failed + int(failed.sum()),
            request_s=found.request_s if n else stage.request_s,
            memory_bytes=max(stage.memory_bytes, found.memory_bytes),
            problem=found.problem,
        )

    def _compare(
        self,
        rollout: Rollout,
        stage: ShadowStage,
        spec: ModelSpec,
        rules: RolloutSettings,
        now: datetime,
    ) -> ShadowStage:
        """Bet on rows with labels that were answered and not used yet."""
        if not stage.judges_quality or self._is_waiting(rollout.id, "compare", now):
            return stage
        lake = self._open_lake()
        pin = lake.pin(rollout.model)
        if pin is None or stage.paired_until >= stage.answered_until:
            return stage
        rows = lake.labelled(
            rollout.model,
            pin,
            since=stage.paired_until,
            until=stage.answered_until,
            oldest=rows_of(rollout.candidate, PAIR_ROWS),
            versions=(_champion(rollout),),
            only_labelled=False,
        )
        stage = self._with_delay(rollout, stage, spec, pin, now)
        mature = mature_until(stage.labels, self._observer.said_age_s(spec), now)
        until = complete_until(rows, rules.label_coverage, mature, spec.awaited)
        if until is None:
            self._wait(rollout.id, "compare", now)
            share = arrived(rows, spec.awaited).mean() if rows.num_rows else 0.0
            late = f"labels are late: {share:.0%} of the newest {rows.num_rows:,} rows have one"
            return replace(stage, waiting=late)
        rows = before(rows, until)
        version, measures = rollout.candidate.version, stage.measured(spec)
        answers = lake.shadows().read(rollout.model, version, stage.paired_until, until)
        stage = replace(stage, paired_until=until, waiting="")
        return bet(stage, measures, rows, answers)

    def _with_delay(
        self, rollout: Rollout, stage: ShadowStage, spec: ModelSpec, pin: Pin, now: datetime
    ) -> ShadowStage:
        """With the delay of the champion's labels, unless the age is said."""
        if self._observer.said_age_s(spec) is not None or not due(stage.labels, now):
            return stage
        return replace(
            stage, labels=self._observer.delay(rollout, spec, pin, stage.measured(spec), now)
        )

    def _end(self, rollout_id: str) -> None:
        running = self._running.pop(rollout_id, None)
        if running is not None:
            running.graph.close()

    def _is_waiting(self, rollout_id: str, what: str, now: datetime) -> bool:
        return now < self._waits.get((rollout_id, what), now)

    def _wait(self, rollout_id: str, what: str, now: datetime) -> None:
        self._waits[rollout_id, what] = now + LOOK_AGAIN


def _champion(rollout: Rollout) -> int:
    if rollout.champion is None:
        raise Conflict(f"rollout {rollout.id} has not been adopted yet")
    return rollout.champion.version
