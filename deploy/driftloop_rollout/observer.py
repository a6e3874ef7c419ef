"""Reads the evidence of a rollout from the lake and the loss accounting; changes nothing."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from functools import cache

import pyarrow as pa

from driftloop_artifacts import open_artifacts
from driftloop_contracts.capture import parse_capture
from driftloop_contracts.errors import Conflict, Rejected
from driftloop_contracts.events import with_todays_names
from driftloop_contracts.kind import LANGUAGE, TABULAR, ModelKind
from driftloop_contracts.model import ModelSpec
from driftloop_evaluation.measures import Measure, Measures, measures_of
from driftloop_lake.capture_loss import capture_loss
from driftloop_lake.port import LakeReader, Pin
from driftloop_rollout import arm_metrics
from driftloop_rollout.arm_rows import ArmRows, read_arm_rows
from driftloop_rollout.delay_reader import read_delay
from driftloop_rollout.evidence import (
    MIN_PAST_REQUESTS,
    ChampionBaseline,
    RolloutEvidence,
    extend,
    start,
)
from driftloop_rollout.label_delay import LabelDelay, due
from driftloop_rollout.machine import Rollout, State
from driftloop_rollout.margins import Margins
from driftloop_rollout.output_quality import FORMED_BY, form_scorer
from driftloop_rollout.shadow_stage import SHARE
from driftloop_rollout.units import NO_KEY
from driftloop_settings import LlmSettings, RolloutSettings, Settings
from driftloop_store.store import Store

PAST_ROWS = 5_000
MIN_SLICE_ROWS = 50
"""A slice with fewer of the champion's rows is not judged."""
KEYS_PAST_ROWS = 20_000
"""The number of the champion's newest rows from which losses of routing keys are learned."""
OPEN_EPOCH_S = 5.0
"""The time between two reads of an epoch with routing keys that is not over yet."""
MAX_SPAN = timedelta(minutes=10)
"""The span of time that one cycle reads while it catches up with late labels."""


class Observer:
    """See the module. The lake is opened at the first read, and again if that failed."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        open_lake: Callable[[], LakeReader],
    ) -> None:
        self._settings = settings
        self._store = store
        self._lake = cache(open_lake)
        self._files = open_artifacts(settings).use
        self._waits: dict[str, datetime] = {}
        self._unmeasured: dict[str, str] = {}

    def look(
        self, rollout: Rollout, spec: ModelSpec, now: datetime, *, served: bool
    ) -> RolloutEvidence | None:
        """Return the evidence with the rows that arrived since the last cycle. served: whether all
        replicas have the current step's split."""
        seen = rollout.evidence or self.started(rollout, spec, now)
        if seen is None:
            return None
        if rollout.halted_at is not None:
            seen = seen.halted(rollout.halted_at)
        else:
            taken, watched = rollout.stepped_at or now, rollout.state is State.WATCHED
            seen = seen.with_step(
                rollout.id, rollout.weight, rollout.sticky_s, taken, served, now, watched
            )
        pin = self._lake().pin(rollout.model)
        if pin is None or now < self._waits.get(rollout.id, now):
            return seen
        seen = self._with_metrics(rollout, spec, pin, seen, now)
        seen = self._with_delay(rollout, spec, pin, seen, now)
        older, newer = sorted((seen.labels_until, seen.requests_until))
        if newer - older <= MAX_SPAN or not seen.quality_is_judged:
            since = older if seen.quality_is_judged else seen.requests_until
            recent = aged = self._rows(rollout, spec, pin, seen.baseline, since, None)
        else:
            recent = self._rows(rollout, spec, pin, None, seen.requests_until, None)
            until = seen.labels_until + MAX_SPAN
            aged = self._rows(rollout, spec, pin, seen.baseline, seen.labels_until, until)
        past = None
        if (recent.key != NO_KEY).any() or (aged.key != NO_KEY).any():
            past = self._rows(rollout, spec, pin, seen.baseline, None, older, newest=KEYS_PAST_ROWS)
        after = extend(seen, recent, aged, self.margins(spec), now, past)
        before = (seen.requests_until, seen.labels_until)
        if past is None or (after.requests_until, after.labels_until) != before:
            self._waits.pop(rollout.id, None)
        else:
            self._waits[rollout.id] = now + timedelta(seconds=OPEN_EPOCH_S)
        return after

    def _with_metrics(
        self, rollout: Rollout, spec: ModelSpec, pin: Pin, seen: RolloutEvidence, now: datetime
    ) -> RolloutEvidence:
        """With what is shown of both arms, of the newest rows of this rollout."""
        if not seen.quality_is_judged or not arm_metrics.due(seen.metrics, now):
            return seen
        stable, candidate = _versions(rollout)
        since = seen.splits[0].since if seen.splits else now
        rows = self._lake().labelled(
            rollout.model, pin, since=since, newest=arm_metrics.ROWS, versions=(stable, candidate)
        )
        found = arm_metrics.of_arms(spec, rows, candidate, stable, now)
        return replace(seen, metrics=found) if found else seen

    def _with_delay(
        self, rollout: Rollout, spec: ModelSpec, pin: Pin, seen: RolloutEvidence, now: datetime
    ) -> RolloutEvidence:
        """Return the evidence with the delay of the champion's labels, unless the age is said."""
        margins = self.margins(spec)
        learned = seen.quality_is_judged and margins.label_age_s is None
        if not learned or not due(seen.labels, now):
            return seen
        measures = seen.baseline.measured(spec)
        return replace(seen, labels=self.delay(rollout, spec, pin, measures, now))

    def delay(
        self,
        rollout: Rollout,
        spec: ModelSpec,
        pin: Pin,
        measures: Sequence[Measure],
        now: datetime,
    ) -> LabelDelay:
        """Learn how long the champion's labels take."""
        lag = timedelta(seconds=self._settings.lake.flush_seconds)
        nearly_all, stable = self.margins(spec).label_coverage, _versions(rollout)[0]
        lake = self._lake()
        return read_delay(lake, rollout.model, pin, stable, measures, nearly_all, now, lag)

    def _rows(
        self,
        rollout: Rollout,
        spec: ModelSpec,
        pin: Pin,
        baseline: ChampionBaseline | None,
        since: datetime | None,
        until: datetime | None,
        newest: int | None = None,
    ) -> ArmRows:
        stable, candidate = _versions(rollout)
        table = self._lake().labelled(
            rollout.model,
            pin,
            since=since,
            until=until,
            newest=newest,
            versions=(stable, candidate),
            only_labelled=False,
        )
        scale, measures = (baseline.scale, baseline.measured(spec)) if baseline else (None, ())
        return read_arm_rows(table, spec, scale, stable, candidate, form_scorer(spec), measures)

    def said_age_s(self, spec: ModelSpec) -> float | None:
        """Return the age from which a model's labels count, if the settings say it."""
        return self.margins(spec).label_age_s

    def age_s(self, spec: ModelSpec, seen: RolloutEvidence) -> float | None:
        """See `label_age_s`."""
        return self.label_age_s(spec, seen.labels)

    def label_age_s(self, spec: ModelSpec, learned: LabelDelay | None) -> float | None:
        """Return the age by which labels have come: as said, or as learned; None if unknown."""
        said = self.said_age_s(spec)
        if said is None and learned is not None:
            return learned.age_s
        return said or None

    def margins(self, spec: ModelSpec) -> Margins:
        own = self._settings.for_model(spec)
        found = MARGINS[spec.kind](own.rollout, own.llm)
        if spec.awaited is None:
            found = replace(found, label_age_s=0.0)
        if parse_capture(spec.options).columns & FORMED_BY:
            return replace(found, answers=None)  # the lake has not the answers as they were
        return found

    def started(self, rollout: Rollout, spec: ModelSpec, now: datetime) -> RolloutEvidence | None:
        """Return the evidence at the start: the champion's past; None while it is too short."""
        lake, (stable, candidate) = self._lake(), _versions(rollout)
        pin = lake.pin(rollout.model)
        if pin is None:
            return None
        past = lake.labelled(
            rollout.model, pin, newest=PAST_ROWS, versions=(stable,), only_labelled=False
        )
        own, shadow = self._settings.for_model(spec), rollout.shadow
        try:
            measures = self.measures(rollout, spec, past)
        except Rejected as error:
            self._unmeasured[rollout.id] = str(error)
            return None
        self._unmeasured.pop(rollout.id, None)
        scale = measures.scale
        rows = read_arm_rows(past, spec, scale, stable, candidate, form_scorer(spec), measures.all)
        found = start(
            spec,
            self.margins(spec),
            rollout.rungs,
            rows,
            scale,
            rollout.stepped_at or now,
            measures,
            own.rollout.deadline_s,
            shadow.proven if shadow else (),
            1.0 - SHARE if shadow and shadow.used else 1.0,
        )
        if found is None:
            return None
        found = replace(found, unaccounted=self.unaccounted(rollout))
        return self._with_delay(rollout, spec, pin, found, now)

    def unmeasured(self, rollout: Rollout) -> str:
        """Why `started` found no measures for the candidate, or an empty text."""
        return self._unmeasured.get(rollout.id, "")

    def measures(self, rollout: Rollout, spec: ModelSpec, past: pa.Table) -> Measures:
        """Of the champion's hold-out rows if possible, else of its labelled past. Raises
        Rejected."""
        margin, rows = self.margins(spec).quality, MIN_SLICE_ROWS
        held = self._reference(rollout) if spec.task is not None else None
        if held is not None:
            with suppress(Rejected):
                found = measures_of(spec, held, margin, rows, MIN_PAST_REQUESTS)
                if spec.objective or spec.task != "regression" or found.scale:
                    return found
        return measures_of(spec, past, margin, rows, MIN_PAST_REQUESTS)

    def _reference(self, rollout: Rollout) -> pa.Table | None:
        """The champion's hold-out rows; None if it has none."""
        with self._files(rollout.champion.path if rollout.champion else "") as folder:
            file = folder / "reference.parquet"
            if not file.is_file():
                return None
            import pyarrow.parquet as pq

            return with_todays_names(pq.read_table(file))

    def unaccounted(self, rollout: Rollout) -> int:
        """Count the served rows of both versions that are neither in the ledger nor in the lake and
        were not dropped for a known reason."""
        lake, model = self._lake(), rollout.model
        pin = lake.pin(model)
        if pin is None:
            return 0
        ledger = self._store.ledger(model)
        return sum(
            capture_loss(ledger, lake, model, pin, version).unexplained
            for version in _versions(rollout)
        )


def _versions(rollout: Rollout) -> tuple[int, int]:
    """Return the stable version and the candidate of an adopted rollout."""
    if rollout.champion is None:
        raise Conflict(f"rollout {rollout.id} has not been adopted yet")
    return rollout.champion.version, rollout.candidate.version


def margins(rules: RolloutSettings, llm: LlmSettings | None = None) -> Margins:
    """llm: the settings of a language model, whose ratings have another margin and age."""
    found = Margins(
        quality=rules.quality_margin,
        errors=rules.error_margin,
        latency=rules.latency_margin,
        latency_floor_s=rules.latency_floor_s,
        label_age_s=rules.label_age_s,
        label_coverage=rules.label_coverage,
        unequal_labels=rules.unequal_labels == "compare",
    )
    if llm is None:
        return found
    return replace(
        found,
        quality=llm.rating_margin,
        label_age_s=llm.rating_age_s,
        answers=llm.format_margin,
        judge_latency=llm.judge_latency,
    )


MARGINS: Mapping[ModelKind, Callable[[RolloutSettings, LlmSettings], Margins]] = {
    TABULAR: lambda rules, _llm: margins(rules),
    LANGUAGE: margins,
}
