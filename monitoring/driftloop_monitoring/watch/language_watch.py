"""Judges the windows of a language model beyond the checks of their columns."""

from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING

import pyarrow as pa

from driftloop_contracts.judgement import Window
from driftloop_contracts.language import CORRECTION, PREFERRED
from driftloop_contracts.model import ModelSpec
from driftloop_lake.port import LakeReader, Pin
from driftloop_monitoring.state.monitor_state import MonitorState
from driftloop_monitoring.state.reference import Reference
from driftloop_monitoring.watch.judgement import Judgement, Observation
from driftloop_monitoring.watch.text_watch import TextWatch
from driftloop_settings import Settings
from driftloop_store.store import Store

if TYPE_CHECKING:
    from driftloop_monitoring.watch.judge_watch import JudgeWatch


class LanguageWatch:
    """Watches one model: its corrected texts, its prompts' embeddings, and its judge, if there is
    one. Methods may raise the errors of the lake or the store."""

    def __init__(self, spec: ModelSpec, store: Store, lake: LakeReader, settings: Settings) -> None:
        self._model = spec.name
        self._store = store
        self._lake = lake
        self._counted = settings.llm.min_corrections is not None
        self._texts = TextWatch(spec.name, store, lake, settings)
        judged = settings.judge.url or spec.options.get("judge")
        self._judge = _judge_watch(spec.name, lake, settings) if judged else None

    def corrections(self, pin: Pin) -> int:
        """Return the number of answers corrected since the last retrain; 0 if the trigger ignores
        them."""
        if not self._counted:
            return 0
        asked = self._store.retrains(self._model, 1)
        since = asked[0].at if asked else None
        return self._lake.answers_with(self._model, pin, (CORRECTION, PREFERRED), since)

    def observe(
        self,
        state: MonitorState,
        window: Window,
        known: Reference,
        pin: Pin,
        rows: pa.Table,
        now: datetime,
    ) -> tuple[MonitorState, Observation]:
        """Return observations about the texts, prompts and answers of a window. now: when the step
        began."""
        since = state.windowed.at if state.windowed else window.started_at
        nats, found = self._texts.corrections(window, pin, state.version, since, state.nats, now)
        state = replace(state, nats=nats)
        found += self._texts.prompts(window, state.version, known.table, rows)
        if self._judge is not None:
            state, judged = self._judge.window(state, window, known, rows, now)
            found += judged
        return state, found

    def learn(self, state: MonitorState, known: Reference, pin: Pin, now: datetime) -> Judgement:
        """Calibrate the judge within the limits that the step's windows left."""
        if self._judge is None:
            return Judgement(state=state)
        return self._judge.learn(state, known, pin, now)


def _judge_watch(model: str, lake: LakeReader, settings: Settings) -> "JudgeWatch":
    """Create the watch. Imported only if a judge is configured, because its HTTP client costs
    start-up time and memory."""
    from driftloop_monitoring.watch.judge_watch import JudgeWatch

    return JudgeWatch(model, lake, settings)
