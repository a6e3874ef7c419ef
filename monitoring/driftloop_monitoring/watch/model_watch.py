"""Watches one model: a step reads new rows from the lake, judges them, and records the result.

Order of a step: read through one pin → for each judgement: windows, findings and alerts → state.
Then the decision and retrain request → state. Ids are derived from the state, so a step that is
interrupted and repeated applies nothing twice, and earlier judgements are kept.
"""

import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from datetime import datetime, timedelta

import pyarrow as pa
import pyarrow.compute as pc
import structlog

from driftloop_artifacts import open_artifacts
from driftloop_contracts.capture import parse_capture
from driftloop_contracts.model import Deployment, ModelSpec
from driftloop_evaluation.measures import QUALITY
from driftloop_evaluation.settling import settled_until
from driftloop_lake.capture_loss import capture_loss
from driftloop_lake.port import LakeReader, Pin
from driftloop_monitoring.state import alerts, reference
from driftloop_monitoring.state.judging_policy import judging_policy
from driftloop_monitoring.state.monitor_state import MonitorState, Standing
from driftloop_monitoring.state.reference import Reference
from driftloop_monitoring.state.reference_cache import ReferenceCache
from driftloop_monitoring.state.window_tries import begun
from driftloop_monitoring.statistics.drift import Distance
from driftloop_monitoring.statistics.performance import LossBaseline
from driftloop_monitoring.statistics.positions import Position, position_of, rows_after, times_of
from driftloop_monitoring.statistics.sketches import (
    ReferenceSketch,
    reference_sketches,
    window_sketch,
)
from driftloop_monitoring.statistics.windows import LABEL_BLOCK, Cut, cut
from driftloop_monitoring.watch.judgement import (
    ClosedWindow,
    Judgement,
    Observation,
    judge_labels,
    judge_window,
    live_reference_rows,
    new_champion,
    window_record,
)
from driftloop_monitoring.watch.labelled_rows import labelled_rows
from driftloop_monitoring.watch.language_watch import LanguageWatch
from driftloop_monitoring.watch.live_metrics import LiveMetrics
from driftloop_monitoring.watch.reports import ReportWriter, attach_reports
from driftloop_monitoring.watch.unjudged import labels_judged, unjudged_labels, unjudged_window
from driftloop_settings import Settings
from driftloop_store import Store, StoreAway

log = structlog.get_logger()

READ_ROWS = 100_000
"""A step reads at most, so that memory does not grow with the rows that wait for labels."""
FIRST_ROWS = 2_000
"""Read to see whether their labels have come; if so, READ_ROWS are."""
LABELS_LOAD = 0.25
"""Of a core for reading labels of all models."""
MOST_APART_S = 300.0
"""Between two readings of a model's labels."""
REREAD = timedelta(seconds=10)
"""How often rows are read again although the lake has not changed: they get older."""


class ModelWatch:
    """Watches the model described by `spec`. `step` may raise any error of the lake or the store;
    then call it again.

    read_rows: see READ_ROWS; at least two windows are read in any case. references: those of all
    models.
    """

    def __init__(
        self,
        spec: ModelSpec,
        store: Store,
        lake: LakeReader,
        settings: Settings,
        distance: Distance,
        reports: ReportWriter,
        read_rows: int = READ_ROWS,
        references: ReferenceCache | None = None,
    ) -> None:
        self.spec = spec
        self.settings = settings
        self.corrections = 0
        """How many answers were corrected since the last retrain, at the last step."""
        self._name = spec.name
        self._artifacts = open_artifacts(settings)
        self._store = store
        self._lake = lake
        self._policy = judging_policy(settings, spec)
        self._distance = distance
        self._reports = reports
        self._models = 1
        self._read_rows = max(read_rows, 2 * settings.monitoring.window_rows)
        self.can_decide = False
        """Whether the last step loaded what is known about the champion. Rows that could not be
        judged do not delay a decision."""
        self._language = (
            LanguageWatch(spec, store, lake, settings) if spec.kind.has_conversations else None
        )
        self._metrics = LiveMetrics(spec, settings.monitoring.window_rows)
        self._references = ReferenceCache() if references is None else references
        self._key = object()  # of this spec
        self._normal: tuple[int, Reference] | None = None
        """The version and its reference without the rows."""
        self._sketches: tuple[int, Mapping[str, ReferenceSketch]] | None = None
        self._read: tuple[Pin, datetime] | None = None
        self._labels_from = 0.0

    def normal(self, state: MonitorState) -> tuple[LossBaseline | None, float | None]:
        """The baseline of the version that was judged last, for the measure that alerted or the
        decisive one, and its margin; None: unknown, and the policy's."""
        name = state.risen[0] if state.risen else QUALITY
        return self._normal[1].normal(name) if self._normal else (None, None)

    def step(
        self, deployment: Deployment, standing: Standing, now: datetime, models: int = 1
    ) -> None:
        """Judge the new rows of the stable version, and put the state after each judgement.

        models: how many are watched, which share the false alerts of a month."""
        self._models = models
        self.can_decide = False
        version = deployment.split.stable
        if standing.state.version != version:
            log.info("monitor.champion_changed", model=self._name, version=version)
            self._record(new_champion(standing.state, version, now), standing, now)
            self._read = None
        pin = self._lake.pin(self._name)
        read_pin, read_at = self._read or (None, now)
        if pin is None or (pin == read_pin and now - read_at < REREAD):
            self.can_decide = True
            return
        if self._language is not None:
            self.corrections = self._language.corrections(pin)
        new = self._normal is None or self._normal[0] != version
        self.can_decide = not new
        closes = new or self._may_close(standing.state, pin, now)
        idle = self._language is None and not closes and time.monotonic() < self._labels_from
        if idle or self._normal is None or closes or self._language is not None:
            known = None if idle else self._known_reference(deployment)
        else:
            known = self._normal[1]  # labels are judged without the rows of the reference
        self.can_decide = True
        if known is not None:
            self._judge(standing, known, deployment, pin, now, closes)
        elif not idle:
            self._keep_live_reference(standing, pin, now)
        self._read = (pin, now)

    def _judge(
        self,
        standing: Standing,
        known: Reference,
        deployment: Deployment,
        pin: Pin,
        now: datetime,
        closes: bool,
    ) -> None:
        """Run all parts, even if an earlier one fails. closes: whether a window may."""
        version, whole = standing.state.version, lambda: self._known_reference(deployment)
        attached = (self._reports, self._store, self._lake, self.spec, whole, version, pin)
        with ExitStack() as then:  # run in reverse order
            then.callback(attach_reports, *attached)
            if self._language is not None:
                then.callback(self._learn, self._language, standing, known, pin, now)
            if closes:
                then.callback(self._judge_windows, standing, known, pin, now)
            if time.monotonic() >= self._labels_from:
                then.callback(self._rest, time.process_time())
                self._judge_labels(standing, known, pin, now)

    def _may_close(self, state: MonitorState, pin: Pin, now: datetime) -> bool:
        """Whether a window may be full, by the statistics of the files, or old enough."""
        m, behind = self.settings.monitoring, state.windowed
        if behind is None or (now - behind.at).total_seconds() >= m.window_seconds:
            return True
        return self._most_after(behind, pin) >= m.window_rows

    def _most_after(self, behind: Position | None, pin: Pin) -> int:
        return self._lake.most_after(self._name, pin, None if behind is None else behind.at)

    def _rest(self, begun_s: float) -> None:
        """Leave time for the labels of other models. A model alone needs none."""
        taken_s = (time.process_time() - begun_s) * (self._models - 1) / LABELS_LOAD
        self._labels_from = time.monotonic() + min(MOST_APART_S, taken_s)

    def _rows(
        self,
        pin: Pin,
        version: int,
        behind: Position | None,
        now: datetime,
        wanted: int | None = None,
    ) -> pa.Table:
        """Return the oldest settled rows after a position, about `wanted` (None: `read_rows`)."""
        table = self._lake.labelled(
            self._name,
            pin,
            since=None if behind is None else behind.at,
            versions=(version,),
            arm="stable",
            oldest=wanted or self._read_rows,
            only_labelled=False,
        )
        if not table.num_rows:
            return table
        end = settled_until(table["predicted_at"][-1].as_py(), now)
        table = table.filter(
            pc.less(table["predicted_at"], pa.scalar(end, table["predicted_at"].type))
        )
        return rows_after(table, behind)

    def _known_reference(self, deployment: Deployment) -> Reference | None:
        version = deployment.split.stable

        def load() -> Reference | None:
            served = deployment.version(version)
            if served is None:
                return None
            live_file = reference.live_file(self.settings.state_dir, self._name, version)
            return reference.load(self.spec, served, live_file, self._artifacts)

        loaded = self._references.get((self._key, version), load)
        if loaded is None:
            return None
        if self._normal is None or self._normal[0] != version:
            self._normal = (version, loaded.without_rows)
            log.info(
                "monitor.reference",
                model=self._name,
                version=version,
                rows=loaded.rows,
                live=loaded.live,
                error=loaded.baseline and round(loaded.baseline.mean, 5),
            )
        # Columns changed by a capture rule are not judged: they would raise an alert in every
        # window.
        return loaded.without(parse_capture(self.spec.options).columns)

    def _keep_live_reference(self, standing: Standing, pin: Pin, now: datetime) -> None:
        state = standing.state
        rows = self._rows(pin, state.version, state.tested, now)
        labelled = self.spec.task is not None
        wanted = live_reference_rows(
            rows, now, self._policy, labelled=labelled, labels=self.spec.awaited
        )
        if wanted is None:
            return
        live_file = reference.live_file(self.settings.state_dir, self._name, state.version)
        reference.keep(rows[:wanted], live_file, self._artifacts)
        here = position_of(rows, wanted - 1)
        standing.put(replace(state, windowed=here, tested=here))

    def _judge_labels(self, standing: Standing, known: Reference, pin: Pin, now: datetime) -> None:
        state = standing.state
        if known.baseline is None:
            standing.put(replace(state, tested=state.windowed))
            return
        policy = replace(self._policy, performance=self._policy.performance.among(self._models))
        first = min(FIRST_ROWS, self._read_rows)
        few = self._most_after(state.tested, pin) <= first
        for wanted in (None,) if few else (first, None):
            rows = self._rows(pin, state.version, state.tested, now, wanted)
            ready = labelled_rows(rows, now, policy, self.spec.awaited)
            if rows.num_rows - ready.num_rows >= LABEL_BLOCK:
                break  # later rows would wait for those without a label
        if not ready.num_rows:
            self._measure(standing, ready, now)
            return
        tries = state.label_tries
        if tries is not None and tries.exhausted(now):
            found = unjudged_labels(state, self._name, ready, tries, pin.predictions, now)
            self._record(found, standing, now)
            return
        trying = begun(tries, now)
        standing.put(replace(state, label_tries=trying))
        try:
            judged = judge_labels(standing.state, known, ready, now, policy, pin.predictions)
        except Exception as error:
            standing.put(replace(state, label_tries=trying.failed(error)))
            raise
        self._record(labels_judged(judged), standing, now)
        self._measure(standing, ready, now)

    def _measure(self, standing: Standing, labelled: pa.Table, now: datetime) -> None:
        measured = self._metrics.after(standing.state.version, labelled, now, self._models)
        if measured is not None:
            standing.put(replace(standing.state, measured=measured))

    def _judge_windows(self, standing: Standing, known: Reference, pin: Pin, now: datetime) -> None:
        state = standing.state
        waiting = self._rows(pin, state.version, state.windowed, now)
        while (found := self._cut(waiting, now)) is not None:
            rows, waiting = waiting[: found.rows], waiting[found.rows :]
            ledger = self._store.ledger(self._name)
            loss = capture_loss(ledger, self._lake, self._name, pin, state.version)
            closed = ClosedWindow(rows=rows, cut=found, loss=loss, lake_version=pin.predictions)
            judged = self._judge_window(standing, known, closed, pin, now)
            state = self._record(judged, standing, now)

    def _judge_window(
        self, standing: Standing, known: Reference, closed: ClosedWindow, pin: Pin, now: datetime
    ) -> Judgement:
        """Raises what judging raises, unless it was tried often enough. The try is in the store
        before it is begun: what ends the process counts as well."""
        tries = standing.state.tries
        if tries is not None and tries.exhausted(now):
            return unjudged_window(standing.state, self._name, closed, tries, now)
        trying = begun(tries, now)
        standing.put(replace(standing.state, tries=trying))
        try:
            state, observed = self._observe(standing.state, known, closed, pin, now)
            judged = judge_window(state, known, closed, self._policy, self._distance, observed)
            return self._sketched(judged, known, closed)
        except StoreAway:
            standing.put(replace(standing.state, tries=tries))
            raise
        except Exception as error:
            standing.put(replace(standing.state, tries=trying.failed(error)))
            raise

    def _sketched(self, judged: Judgement, known: Reference, closed: ClosedWindow) -> Judgement:
        """With what charts show of the columns, if the window could be judged."""
        if judged.window is None or judged.window.status != "judged":
            return judged
        version = judged.state.version
        if self._sketches is None or self._sketches[0] != version:
            sketches = reference_sketches(known.columns())
            shown = {name: sketch.to_dict() for name, sketch in sketches.items()}
            normal = {w.measure.name: w.baseline.mean for w in known.watched}
            self._store.put_reference_sketch(
                self._name, version, {"columns": shown, "measures": normal}
            )
            self._sketches = version, sketches
        columns = known.columns(closed.rows)
        return replace(judged, sketch=window_sketch(self._sketches[1], columns))

    def _cut(self, waiting: pa.Table, now: datetime) -> Cut | None:
        m = self.settings.monitoring
        return cut(
            times_of(waiting),
            now,
            window_rows=m.window_rows,
            min_rows=m.min_rows,
            least_seconds=m.window_least_seconds,
            window_seconds=m.window_seconds,
        )

    def _observe(
        self, state: MonitorState, known: Reference, closed: ClosedWindow, pin: Pin, now: datetime
    ) -> tuple[MonitorState, Observation]:
        if self._language is None:
            return state, Observation()
        window = window_record(state, known, closed)
        if window.status == "inconclusive":
            return state, Observation()
        return self._language.observe(state, window, known, pin, closed.rows, now)

    def _learn(
        self,
        language: LanguageWatch,
        standing: Standing,
        known: Reference,
        pin: Pin,
        now: datetime,
    ) -> None:
        self._record(language.learn(standing.state, known, pin, now), standing, now)

    def _record(self, judged: Judgement, standing: Standing, now: datetime) -> MonitorState:
        """Write the window, its findings, the alerts and then the state, which is returned."""
        window, state = judged.window, judged.state
        if window is not None:
            self._store.add_window(window)
            if judged.sketch is not None:
                self._store.add_sketch(window, state.version, judged.sketch)
        for finding in judged.findings:
            self._store.add_finding(finding)
        alerts.apply(self._store, self._name, judged.alerts, now)
        if window is not None:
            log.info(
                "monitor.window",
                model=self._name,
                version=state.version,
                rows=window.rows,
                status=window.status,
                findings=len(judged.findings),
                mean_loss=window.mean_loss,
            )
        standing.put(state)
        return state
