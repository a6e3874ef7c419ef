"""Watching one model: a step reads what is new in the lake, judges it, and writes down what
follows.

Order of a step: read through one pin → windows, findings and alerts → decision and retrain request
→ cursor. Ids come from the cursor, so a step cut off anywhere and repeated changes nothing twice.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import structlog
from numpy.typing import NDArray

from driftloop_contracts.capture import parse_capture
from driftloop_contracts.judgement import CheckKind, Finding, Severity, Window
from driftloop_contracts.kind import LANGUAGE
from driftloop_contracts.language import CORRECTION, PREFERRED
from driftloop_contracts.model import Deployment, ModelSpec
from driftloop_evaluation.settling import settled_until
from driftloop_lake.capture_loss import CaptureLoss, capture_loss
from driftloop_lake.port import LakeReader, Pin
from driftloop_monitoring.state import alerts, reference
from driftloop_monitoring.state.checks import window_findings
from driftloop_monitoring.state.judging_policy import Terms, terms_of
from driftloop_monitoring.state.monitor_state import MonitorState
from driftloop_monitoring.state.reference import Reference
from driftloop_monitoring.state.reference import judged as judged_rows
from driftloop_monitoring.statistics.drift import MIN_REFERENCE, Distance, DriftRule
from driftloop_monitoring.statistics.performance import Change, LossBaseline, Rule, State, update
from driftloop_monitoring.statistics.window_loss import WindowLoss
from driftloop_monitoring.statistics.windows import (
    Cut,
    Position,
    cut,
    labelled_prefix,
    stable_id,
)
from driftloop_monitoring.watch.reports import SAMPLE_ROWS, ReportWriter
from driftloop_monitoring.watch.window_watch import WindowWatch
from driftloop_settings import Settings
from driftloop_store.store import Store

if TYPE_CHECKING:
    from driftloop_monitoring.watch.judge_watch import JudgeWatch

log = structlog.get_logger()

READ_ROWS = 100_000
"""So many rows are looked at in a step: memory must not grow with what waits for its labels."""
REREAD = timedelta(seconds=10)
"""How often rows are looked at again while the lake stays as it is: they age."""


@dataclass
class ModelWatch:
    """The watch over one model. `step` may raise whatever the lake or the store raise: call
    again."""

    name: str
    store: Store
    lake: LakeReader
    settings: Settings
    distance: Distance
    reports: ReportWriter

    def __post_init__(self) -> None:
        self._reference: tuple[int, Reference] | None = None
        self._read: tuple[Pin, datetime] | None = None
        self._window_watch = WindowWatch(self.name, self.store, self.lake, self.settings)
        self._judge_watch: JudgeWatch | None = None
        self.corrections = 0
        """Answers of a language model that were corrected since the last retrain, at the last
        look."""

    @property
    def baseline(self) -> LossBaseline | None:
        """Of the version that was judged last."""
        return self._reference[1].baseline if self._reference else None

    @property
    def cursor(self) -> str:
        return f"monitor/{self.name}"

    def step(self, deployment: Deployment, standing: MonitorState, now: datetime) -> MonitorState:
        """Judge what is new of the stable version; returns the new standing, which is not saved."""
        version = deployment.split.stable
        if standing.version != version:
            alerts.close_alerts(self.store, self.name)
            log.info("monitor.champion_changed", model=self.name, version=version)
            standing, self._read = standing.promoted(version, now), None
        pin = self.lake.pin(self.name)
        if pin is None or not self._due(pin, now):
            return standing
        self.corrections = self._corrections(deployment.model, pin)
        known = self._known_reference(deployment)
        if known is None:
            standing = self._live_reference(deployment, standing, pin, now)
        else:
            standing = self._test(standing, known, pin, now)
            standing = self._cut_windows(standing, known, pin, now)
            judge = self._judges(known.losses.spec)
            standing = judge.learn(standing, known, pin, now) if judge else standing
            self._write_reports(standing, known, pin)
        self._read = (pin, now)
        return standing

    def _corrections(self, spec: ModelSpec, pin: Pin) -> int:
        if spec.kind is not LANGUAGE or self.settings.llm.min_corrections is None:
            return 0
        asked = self.store.retrains(self.name, 1)
        since = asked[0].at if asked else None
        return self.lake.answers_with(self.name, pin, (CORRECTION, PREFERRED), since)

    def _due(self, pin: Pin, now: datetime) -> bool:
        if self._read is None:
            return True
        before, at = self._read
        return pin != before or now - at >= REREAD

    def _rows(self, pin: Pin, version: int, behind: Position | None, now: datetime) -> pa.Table:
        """The oldest settled rows behind a position; what is more is for the next step."""
        table = self.lake.labelled(
            self.name,
            pin,
            since=None if behind is None else behind.at,
            versions=(version,),
            arm="stable",
            oldest=max(READ_ROWS, 2 * self.settings.monitoring.window_rows),
            only_labelled=False,
        )
        if not table.num_rows:
            return table
        end = settled_until(table["predicted_at"][-1].as_py(), now)
        table = table.filter(
            pc.less(table["predicted_at"], pa.scalar(end, table["predicted_at"].type))
        )
        return table[_after(table, behind) :]

    def _known_reference(self, deployment: Deployment) -> Reference | None:
        version = deployment.split.stable
        if self._reference is None or self._reference[0] != version:
            served = deployment.version(version)
            if served is None:
                return None
            loaded = reference.load(deployment.model, served, self._live_file(version))
            if loaded is None:
                return None
            self._reference = (version, loaded)
            log.info(
                "monitor.reference",
                model=self.name,
                version=version,
                rows=loaded.rows,
                live=loaded.live,
                error=loaded.baseline and round(loaded.baseline.mean, 5),
            )
        # What a capture rule changes is not judged: it would be an alert in every window.
        return self._reference[1].without(parse_capture(deployment.model.options).columns)

    def _live_file(self, version: int) -> Path:
        return self.settings.state_dir / "monitor" / f"{self.name}-{version}.parquet"

    def _live_reference(
        self, deployment: Deployment, standing: MonitorState, pin: Pin, now: datetime
    ) -> MonitorState:
        """Make the first rows the reference, once their labels are in (if the model is
        labelled)."""
        rows = self._rows(pin, standing.version, standing.tested, now)
        terms = terms_of(self.settings, deployment.model)
        judged = deployment.model.task is not None
        ready = self._labelled(rows, terms, now) if judged else rows.num_rows
        wanted = terms.first_rows(ready, rows["label_number"].is_valid().to_numpy())
        if wanted is None:
            return standing
        reference.keep(rows[:wanted], self._live_file(standing.version))
        here = _position(rows, wanted - 1)
        return replace(standing, windowed=here, tested=here)

    def _labelled(self, rows: pa.Table, terms: Terms, now: datetime) -> int:
        at = _times(rows)
        ages = (np.datetime64(now.replace(tzinfo=None), "us") - at) / np.timedelta64(1, "s")
        labelled = rows["label"].is_valid().to_numpy()
        coverage = self.settings.monitoring.label_coverage
        return labelled_prefix(labelled, ages, coverage=coverage, timeout_s=terms.timeout_s)

    # -- windows -------------------------------------------------------------------------------
    def _cut_windows(
        self, standing: MonitorState, known: Reference, pin: Pin, now: datetime
    ) -> MonitorState:
        m = self.settings.monitoring
        waiting = self._rows(pin, standing.version, standing.windowed, now)
        while True:
            found = cut(
                _times(waiting),
                now,
                window_rows=m.window_rows,
                min_rows=m.min_rows,
                least_seconds=m.window_least_seconds,
                window_seconds=m.window_seconds,
            )
            if found is None:
                return standing
            ledger = self.store.ledger(self.name)
            loss = capture_loss(ledger, self.lake, self.name, pin, standing.version)
            standing = self._judge(standing, known, pin, waiting[: found.rows], found, loss, now)
            waiting = waiting[found.rows :]

    def _judge(
        self,
        standing: MonitorState,
        known: Reference,
        pin: Pin,
        rows: pa.Table,
        how: Cut,
        loss: CaptureLoss,
        now: datetime,
    ) -> MonitorState:
        m = self.settings.monitoring
        dropped = loss.dropped_since(standing.loss)
        lacks = WindowLoss(rows.num_rows, dropped, loss.unexplained_since(standing.loss))
        reason = lacks.doubt or how.reason
        if not reason and known.rows < MIN_REFERENCE:
            reason = f"the reference has only {known.rows} of at least {MIN_REFERENCE} rows"
        start = standing.windowed.to_dict() if standing.windowed else None
        window_id = stable_id(self.name, standing.version, "window", start)
        losses = known.losses.losses(rows)
        losses = losses[~np.isnan(losses)]
        notes = ["reference: the first live rows"] if known.live else []
        notes += [lacks.note] if lacks.note else []
        window = Window(
            window_id=window_id,
            model=self.name,
            kind=how.kind,
            lake_version=pin.predictions,
            started_at=rows["predicted_at"][0].as_py(),
            ended_at=rows["predicted_at"][-1].as_py(),
            rows=rows.num_rows,
            labelled=len(losses),
            status="inconclusive" if reason else "judged",
            reason=reason or "; ".join(notes),
            mean_loss=float(losses.mean()) if losses.size else None,
            performance=_performance(standing.test, known.baseline),
            dropped=dropped,
            unexplained=lacks.unexplained,
        )
        found: list[Finding] = []
        if not reason:
            found = window_findings(
                known,
                rows,
                model=self.name,
                version=standing.version,
                window_id=window_id,
                at=window.ended_at,
                rule=DriftRule(m.drift_effect, m.drift_significance),
                distance=self.distance,
            )
            standing, window, more = self._beside(standing, window, known, pin, rows, now)
            found += more
        self.store.add_window(window)
        standing = self._note(standing, found)
        if not reason:
            standing = self._quality(standing, found, window, now)
        log.info(
            "monitor.window",
            model=self.name,
            version=standing.version,
            rows=window.rows,
            status=window.status,
            findings=len(found),
            mean_loss=window.mean_loss,
        )
        return replace(standing, windowed=_position(rows, rows.num_rows - 1), loss=loss)

    def _beside(
        self,
        standing: MonitorState,
        window: Window,
        known: Reference,
        pin: Pin,
        rows: pa.Table,
        now: datetime,
    ) -> tuple[MonitorState, Window, list[Finding]]:
        """What a language model's windows are judged by beside their columns."""
        if known.losses.spec.kind is not LANGUAGE:
            return standing, window, []
        watch, version = self._window_watch, standing.version
        since = standing.windowed.at if standing.windowed else window.started_at
        texts = watch.corrections(window, pin, version, since, standing.nats, now)
        prompts = watch.prompts(window, version, known.table, rows)
        notes = "; ".join(note for note in (window.reason, *texts.notes, *prompts.notes) if note)
        shown = {**window.performance, **texts.shown, **prompts.shown}
        window = replace(window, reason=notes, performance=shown)
        standing = replace(standing, nats=texts.nats)
        found = [*texts.findings, *prompts.findings]
        judge = self._judges(known.losses.spec)
        if judge is not None:
            standing, judged = judge.window(standing, window, known, rows, now)
            notes = "; ".join(note for note in (window.reason, judged.note) if note)
            window = replace(
                window, reason=notes, performance={**window.performance, **judged.shown}
            )
            found += judged.findings
        return standing, window, found

    def _judges(self, spec: ModelSpec) -> "JudgeWatch | None":
        """Loaded where somebody is named to judge."""
        if spec.kind is not LANGUAGE or not (self.settings.judge.url or spec.options.get("judge")):
            return None
        if self._judge_watch is None:
            from driftloop_monitoring.watch.judge_watch import JudgeWatch

            self._judge_watch = JudgeWatch(self.name, self.store, self.lake, self.settings)
        return self._judge_watch

    def _quality(
        self, standing: MonitorState, found: list[Finding], window: Window, now: datetime
    ) -> MonitorState:
        critical = [
            f for f in found if f.severity is Severity.CRITICAL and f.kind is CheckKind.QUALITY
        ]
        if critical:
            message = alerts.quality_message(self.name, standing.version, critical)
            alert_id = stable_id(window.window_id, "alert")
            alerts.raise_or_attach(
                self.store, alert_id, critical, message, since=window.started_at, now=now
            )
        else:
            alerts.close_alerts(self.store, self.name, CheckKind.QUALITY)
        drift = (CheckKind.DRIFT, CheckKind.PREDICTION_DRIFT)
        return replace(
            standing,
            broken=tuple(sorted({c for f in critical for c in f.columns})),
            drifted=tuple(sorted({c for f in found if f.kind in drift for c in f.columns})),
        )

    def _note(self, standing: MonitorState, found: list[Finding]) -> MonitorState:
        for finding in found:
            self.store.add_finding(finding)
        return replace(standing, outbox=(*standing.outbox, *(f.to_dict() for f in found)))

    # -- performance ---------------------------------------------------------------------------
    def _test(
        self, standing: MonitorState, known: Reference, pin: Pin, now: datetime
    ) -> MonitorState:
        if known.baseline is None:
            return replace(standing, tested=standing.windowed)
        waiting = self._rows(pin, standing.version, standing.tested, now)
        terms = terms_of(self.settings, known.losses.spec)
        ready = waiting[: self._labelled(waiting, terms, now)]
        if not ready.num_rows:
            return standing
        losses = known.losses.losses(ready)
        usable = ~np.isnan(losses)
        rule = Rule(terms.margin, self.settings.monitoring.average_run_length)
        times = ready["predicted_at"].filter(pa.array(usable)).to_pylist()
        test = update(standing.test, losses[usable], times, known.baseline, rule)
        if test.alert is not None and standing.test.alert is None:
            standing = self._alert(standing, test, test.alert, known, pin, ready, now)
        return replace(standing, test=test, tested=_position(ready, ready.num_rows - 1))

    def _alert(
        self,
        standing: MonitorState,
        test: State,
        change: Change,
        known: Reference,
        pin: Pin,
        ready: pa.Table,
        now: datetime,
    ) -> MonitorState:
        baseline = known.baseline
        assert baseline is not None  # _test asks for it
        window_id = stable_id(self.name, standing.version, "labels", change.row, change.at)
        window = Window(
            window_id=window_id,
            model=self.name,
            kind="labels",
            lake_version=pin.predictions,
            started_at=change.at,
            ended_at=ready["predicted_at"][-1].as_py(),
            rows=change.rows,
            labelled=change.rows,
            status="judged",
            reason="rows since the estimated change of the error",
            mean_loss=change.mean_loss,
            performance=_performance(test, baseline),
        )
        finding = Finding(
            finding_id=stable_id(window_id, "performance"),
            model=self.name,
            version=standing.version,
            kind=CheckKind.PERFORMANCE,
            check="e_detector",
            severity=Severity.CRITICAL,
            columns=(),
            effect=change.mean_loss - baseline.mean,
            significance=float(np.exp(-test.log_e)),
            window_id=window_id,
            at=now,
            detail=f"rise of the mean loss over {change.rows} labelled rows",
        )
        self.store.add_window(window)
        task = known.losses.spec.task
        message = alerts.performance_message(self.name, standing.version, baseline, change, task)
        alerts.raise_or_attach(
            self.store, stable_id(window_id, "alert"), [finding], message, since=change.at, now=now
        )
        return self._note(standing, [finding])

    # -- reports -------------------------------------------------------------------------------
    def _write_reports(self, standing: MonitorState, known: Reference, pin: Pin) -> None:
        self.reports.poll()
        for alert in self.store.alerts(self.name, 5):
            if alert.report or alert.version != standing.version:
                continue
            path = self.reports.path(alert.id)
            if path.is_file():
                self.store.change_alert(alert.id, partial(replace, report=str(path)))
            elif self.reports.wanted(alert.id):
                current = self.lake.labelled(
                    self.name,
                    pin,
                    since=alert.change_at,
                    versions=(standing.version,),
                    newest=SAMPLE_ROWS,
                    only_labelled=False,
                )
                spec = known.losses.spec
                self.reports.start(
                    alert.id, judged_rows(spec, known.table), judged_rows(spec, current)
                )


def _performance(test: State, baseline: LossBaseline | None) -> dict[str, float]:
    shown = {"rows": float(test.rows)}
    if np.isfinite(test.log_e):
        shown["log_e"] = round(test.log_e, 3)
    if test.mean_loss is not None:
        shown["mean_loss"] = test.mean_loss
    if baseline is not None:
        shown |= {"baseline": baseline.mean, "ceiling": baseline.ceiling}
    return shown


def _times(rows: pa.Table) -> NDArray[np.datetime64]:
    times: NDArray[np.datetime64] = rows["predicted_at"].to_numpy().astype("datetime64[us]")
    return times


def _position(rows: pa.Table, index: int) -> Position:
    return Position(
        rows["predicted_at"][index].as_py(),
        rows["prediction_id"][index].as_py(),
        rows["row"][index].as_py(),
    )


def _after(rows: pa.Table, position: Position | None) -> int:
    """Index of the first row behind the position; rows are in order."""
    if position is None or not rows.num_rows:
        return 0
    at = _times(rows)
    moment = np.datetime64(position.at.replace(tzinfo=None), "us")
    index = int(np.searchsorted(at, moment, "left"))
    while index < rows.num_rows and at[index] == moment and _position(rows, index) <= position:
        index += 1
    return index
