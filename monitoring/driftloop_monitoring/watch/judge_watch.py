"""Lets a judge score a window's answers. The scores are displayed, and monitored like ratings once
people's ratings confirm the judge.

A step uses at most `judge.answers` answers, half of them for windows, and `judge.timeout_s`
seconds.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from hashlib import blake2b
from itertools import islice
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from driftloop_contracts.errors import Rejected
from driftloop_contracts.judgement import CheckKind, Finding, Severity, Window
from driftloop_contracts.language import ANSWERED_BY
from driftloop_judge.calibration import agreement, doubt, rated_well
from driftloop_judge.judge import TIME_OVER, Judge, JudgedAnswer, judged_answer
from driftloop_judge.lookup import judge_of
from driftloop_lake.port import LakeReader, Pin
from driftloop_monitoring.state.alert_actions import (
    AlertAction,
    CloseAlerts,
    RaiseAlert,
    judge_message,
)
from driftloop_monitoring.state.judge_state import MIN_REFERENCE, JudgeState
from driftloop_monitoring.state.judging_policy import error_rule
from driftloop_monitoring.state.monitor_state import MonitorState
from driftloop_monitoring.state.reference import Reference
from driftloop_monitoring.statistics.performance import Change, LossBaseline, update
from driftloop_monitoring.statistics.windows import stable_id
from driftloop_monitoring.watch.judgement import Judgement, Observation
from driftloop_settings import Settings

REFERENCE_ANSWERS = 400
MAX_RATED = 500
"""A judge is calibrated with this many of the newest answers; until it has them, every step adds
some."""
NEWEST = 2_000
"""How many of the newest rated answers without a score are considered; older ones are skipped."""
REST = timedelta(seconds=60)
"""The pause after a judge returned no score, since each attempt could use up the time of a step."""
FEW = 8

TEXTS = ("in_messages", "out_text")
_COLUMNS = ("prediction_id", "row", "predicted_at", *ANSWERED_BY)


class JudgeWatch:
    """Watches one model. Methods may raise the errors of the lake."""

    def __init__(self, model: str, lake: LakeReader, settings: Settings) -> None:
        self._model = model
        self._lake = lake
        self._settings = settings
        self._step: datetime | None = None
        self._left, self._left_s = 0, 0.0
        self._rests_until: datetime | None = None

    def window(
        self,
        state: MonitorState,
        window: Window,
        known: Reference,
        rows: pa.Table,
        now: datetime,
    ) -> tuple[MonitorState, Observation]:
        """Score a sample of a window's answers. now: when the step began."""
        judge, why = self._judge(known)
        if judge is None:
            return state, Observation(notes=(f"judge: {why}",))
        settings = self._settings
        scored, alerts = _scored_by(judge, state)
        drawn = list(islice(_drawn(rows), -(-settings.judge.answers // 2)))
        scores, why = self._scores(judge, [answer for _, answer in drawn], now)
        found = sorted(
            (row["predicted_at"], s)
            for (row, _), s in zip(drawn, scores, strict=False)
            if s is not None
        )
        losses = np.array([1.0 - score for _, score in found])
        baseline = scored.baseline
        if baseline is not None:
            rule = error_rule(settings, settings.llm.rating_margin, drawn=True)
            seconds = np.array([at.timestamp() for at, _ in found])
            test = update(scored.test, losses, seconds, baseline, rule)
            scored = replace(scored, test=test)
        doubtful = doubt(scored.rated, settings.judge.min_rated, settings.judge.min_auc)
        notes = [f"not calibrated: {doubtful}"] if doubtful else []
        notes += [f"{len(found)} of {len(drawn)} answers scored, {why}"] if why else []
        if baseline is None:
            of = f" of at least {MIN_REFERENCE}" if scored.whole else ""
            notes.append(
                f"not watched yet: {len(scored.reference)}{of} answers of the reference scored"
            )
        findings: tuple[Finding, ...] = ()
        if baseline and scored.test.alert and not doubtful and not scored.alerted:
            finding, alert = _fallen_score(
                scored, baseline, scored.test.alert, window, state.version, now
            )
            findings, alerts = (finding,), (*alerts, alert)
            scored = replace(scored, alerted=True)
        shown = _shown(scored, losses, baseline, not doubtful)
        note = (f"judge: {'; '.join(notes)}",) if notes else ()
        return replace(state, judge=scored), Observation(shown, note, findings, alerts)

    def learn(self, state: MonitorState, known: Reference, pin: Pin, now: datetime) -> Judgement:
        """Within the limits left by the step's windows, score the reference, and then answers rated
        by people."""
        judge, _ = self._judge(known)
        if judge is None:
            return Judgement(state=state)
        closed_a_window = now == self._step
        scored, alerts = _scored_by(judge, state)
        scored = self._reference(scored, judge, known, now)
        if scored.whole and (closed_a_window or len(scored.rated) < self._kept):
            scored = self._rated(scored, judge, known, pin, state.version, now)
        return Judgement(state=replace(state, judge=scored), alerts=alerts)

    @property
    def _kept(self) -> int:
        return max(MAX_RATED, self._settings.judge.min_rated)

    def _judge(self, known: Reference) -> tuple[Judge | None, str]:
        """Return the judge, or why it is not available."""
        if not set(TEXTS) <= set(known.table.column_names):
            return None, "the reference's conversations and answers are not kept as texts"
        try:
            return judge_of(self._settings.judge, known.losses.spec), ""
        except Rejected as error:
            return None, str(error)

    def _scores(
        self, judge: Judge, answers: Sequence[JudgedAnswer], now: datetime
    ) -> tuple[list[float | None], str]:
        """Return scores of the first answers, as many as the limits of the step allow, and why
        others have none."""
        limits = self._settings.judge
        if now != self._step:
            self._step, self._left, self._left_s = now, limits.answers, limits.timeout_s
        if self._rests_until is not None and now < self._rests_until:
            return [], "it had no score for the answers before and is asked again in a minute"
        asked = answers[: self._left] if self._left_s > 0 else []
        if not asked:
            return [], "other windows had used up this cycle's limit" if answers else ""
        began = time.monotonic()
        scores, why = judge.scores(asked, self._left_s)
        self._left_s -= time.monotonic() - began
        self._left -= len(asked)
        if why == TIME_OVER:  # the last answers were not reached: a later step scores them
            while scores and scores[-1] is None:
                scores.pop()
        told = any(score is not None for score in scores)
        self._rests_until = None if told else now + REST
        # A few answers may be impossible to score. If more are missing, the judge is unavailable,
        # and a later step asks again.
        return scores if told or len(asked) < FEW else [], why

    def _reference(
        self, scored: JudgeState, judge: Judge, known: Reference, now: datetime
    ) -> JudgeState:
        if scored.whole:
            return scored
        drawn = list(islice(_drawn(known.table), REFERENCE_ANSWERS))
        scores, _ = self._scores(judge, [answer for _, answer in drawn[scored.asked :]], now)
        losses = (round(1.0 - score, 4) for score in scores if score is not None)
        asked = scored.asked + len(scores)
        return replace(
            scored, asked=asked, whole=asked >= len(drawn), reference=(*scored.reference, *losses)
        )

    def _rated(
        self,
        scored: JudgeState,
        judge: Judge,
        known: Reference,
        pin: Pin,
        version: int,
        now: datetime,
    ) -> JudgeState:
        """Add scores of rated answers, oldest first, so that the choice does not depend on the
        rating."""
        since = scored.rated_until
        if since is None and known.live:
            since = known.table["predicted_at"][-1].as_py() + timedelta(microseconds=1)
        rows = self._lake.labelled(
            self._model,
            pin,
            since=since,
            newest=NEWEST,
            versions=(version,),
            until=now - timedelta(seconds=self._settings.llm.rating_age_s),
        )
        rows = rows.filter(pc.equal(rows["arm"], "stable"))
        views = [rated_well(1.0 - loss) for loss in known.losses.losses(rows)]
        viewed = [
            (row, view) for row, view in zip(_rows(rows), views, strict=True) if view is not None
        ]
        answers = [
            (row["predicted_at"], view, answer)
            for row, view in viewed
            if (answer := judged_answer(row)) is not None
        ]
        scores, _ = self._scores(judge, [answer for _, _, answer in answers], now)
        if not scores:
            return scored
        asked = list(zip(answers, scores, strict=False))
        fresh = ((view, round(s, 4)) for (_, view, _), s in asked if s is not None)
        until = asked[-1][0][0] + timedelta(microseconds=1)
        return replace(scored, rated=(*scored.rated, *fresh)[-self._kept :], rated_until=until)


def _scored_by(judge: Judge, state: MonitorState) -> tuple[JudgeState, tuple[AlertAction, ...]]:
    """Return the previous scores of this judge. A different judge starts without scores, because
    they are not comparable, and closes the previous judge's alert."""
    if state.judge is not None and state.judge.judge == judge.name:
        return state.judge, ()
    return JudgeState(judge.name), (CloseAlerts(CheckKind.JUDGE),)


def _fallen_score(
    scored: JudgeState,
    baseline: LossBaseline,
    change: Change,
    window: Window,
    version: int,
    now: datetime,
) -> tuple[Finding, AlertAction]:
    finding = Finding(
        finding_id=stable_id(window.window_id, "judge"),
        model=window.model,
        version=version,
        kind=CheckKind.JUDGE,
        check="e_detector",
        severity=Severity.CRITICAL,
        columns=(),
        effect=change.mean_loss - baseline.mean,
        significance=float(np.exp(-scored.test.log_e)),
        window_id=window.window_id,
        at=now,
        detail=f"fall of the judge's mean score over {change.rows} answers",
    )
    alert = RaiseAlert(
        alert_id=stable_id(finding.finding_id, "alert"),
        findings=(finding,),
        message=judge_message(window.model, version, scored.judge, baseline, change),
        since=change.at,
    )
    return finding, alert


def _shown(
    scored: JudgeState, losses: NDArray[np.float64], baseline: LossBaseline | None, counts: bool
) -> dict[str, float]:
    shown = {"judge_answers": float(len(losses)), "judge_counts": float(counts)}
    if len(losses):
        shown["judge_score"] = round(1.0 - float(losses.mean()), 4)
    if baseline is not None:
        shown["judge_score_reference"] = round(1.0 - baseline.mean, 4)
    found = agreement(scored.rated)
    shown["judge_rated"] = float(len(scored.rated))
    if found is not None:
        shown |= {"judge_auc": round(found.area, 4), "judge_auc_lower": round(found.lower, 4)}
    return shown


def _rows(table: pa.Table) -> list[dict[str, Any]]:
    known = [name for name in _COLUMNS if name in table.column_names]
    found: list[dict[str, Any]] = table.select(known).to_pylist()
    return found


def _drawn(table: pa.Table) -> Iterator[tuple[dict[str, Any], JudgedAnswer]]:
    """Yield the answers that can be scored, in a random order that is always the same."""

    def chance(row: dict[str, Any]) -> bytes:
        return blake2b(f"{row['prediction_id']}/{row['row']}".encode(), digest_size=8).digest()

    for row in sorted(_rows(table), key=chance):
        answer = judged_answer(row)
        if answer is not None:
            yield row, answer
