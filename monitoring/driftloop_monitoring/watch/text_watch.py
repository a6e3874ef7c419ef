"""Watches the likelihood of corrected texts under the served version, and drift of the prompts'
embeddings. Both only cause warnings.

A step asks the engine for at most MAX_TEXTS texts and LIMIT_S seconds, regardless of the number of
windows.
"""

import time
from collections.abc import Sequence
from datetime import datetime, timedelta

import numpy as np
import pyarrow as pa

from driftloop_artifacts import open_artifacts
from driftloop_contracts.errors import DriftloopError, Rejected
from driftloop_contracts.events import INPUT_PREFIX
from driftloop_contracts.judgement import CheckKind, Finding, Severity, Window
from driftloop_contracts.language import CORRECTION
from driftloop_contracts.likelihood import LikelihoodCall
from driftloop_lake.port import LakeReader, Pin
from driftloop_monitoring.statistics.perplexity import (
    MAX_TEXTS,
    REFERENCE_TEXTS,
    Rise,
    corrected,
    rise,
)
from driftloop_monitoring.statistics.separation import MIN_EFFECT, Separation
from driftloop_monitoring.statistics.windows import stable_id
from driftloop_monitoring.text.descriptors import last_prompt
from driftloop_monitoring.text.embeddings import Embeddings, separation
from driftloop_monitoring.text.engine_port import nats_per_token
from driftloop_monitoring.watch.judgement import Observation
from driftloop_settings import Settings
from driftloop_store.store import Store

LIMIT_S = 10.0
LOOK_BACK = timedelta(days=1)
NEWEST = 2_000
"""Corrections of answers older than LOOK_BACK, or beyond the NEWEST corrected ones, are not
read."""


class TextWatch:
    """Watches one model. Methods may raise the errors of the lake or the store."""

    def __init__(self, model: str, store: Store, lake: LakeReader, settings: Settings) -> None:
        self._model = model
        self._store = store
        self._lake = lake
        self._settings = settings
        self._step: datetime | None = None
        self._left, self._left_s = 0, 0.0
        self._embeddings: tuple[str, Embeddings] | None = None

    def corrections(
        self,
        window: Window,
        pin: Pin,
        version: int,
        since: datetime,
        nats: tuple[float, ...],
        now: datetime,
    ) -> tuple[tuple[float, ...], Observation]:
        """Measure the corrections received after `since`, up to the window's end.

        nats: per token, of the version's first corrected texts; returned with the additions of this
        window. now: when the step began.
        """
        least = self._settings.llm.max_perplexity_rise
        if least is None:
            return nats, Observation()
        rows = self._lake.labelled(
            self._model,
            pin,
            as_of=window.ended_at,
            since=since - LOOK_BACK,
            newest=NEWEST,
            metric=CORRECTION,
        )
        calls = corrected(rows, since, self._model, version)
        told, why = self._ask(calls, version, now) if calls else ([], "")
        notes = [f"corrected texts: {len(told)} of {len(calls)} measured, {why}"] if why else []
        if not told:
            return nats, Observation(notes=tuple(notes))
        shown = {"correction_nats": float(np.mean(told)), "corrections": float(len(told))}
        if len(nats) < REFERENCE_TEXTS:
            nats = (*nats, *told)[:REFERENCE_TEXTS]
            notes.append(f"corrected texts: the reference has {len(nats)} of {REFERENCE_TEXTS}")
            return nats, Observation(shown, tuple(notes))
        shown["correction_nats_reference"] = float(np.mean(nats))
        detail = "rise of the nats per token of corrected texts under the served version"
        findings = self._findings(
            window, version, "perplexity", "correction", rise(nats, told), least, detail
        )
        return nats, Observation(shown, tuple(notes), findings)

    def prompts(
        self, window: Window, version: int, reference: pa.Table, rows: pa.Table
    ) -> Observation:
        """Compare the embeddings of the window's prompts with the reference's, using the base
        model."""
        column = f"{INPUT_PREFIX}messages"
        if column not in reference.column_names or column not in rows.column_names:
            return Observation()
        try:
            embeddings = self._known(version)
        except (DriftloopError, OSError) as error:
            return Observation(notes=(f"prompts' embeddings are not judged: {error}",))
        old, new = ([last_prompt(m) for m in t[column].to_pylist()] for t in (reference, rows))
        found = separation(embeddings, old, new)
        detail = "how well embeddings separate the prompts from the reference's, 0 to 1"
        findings = self._findings(
            window, version, "embeddings", "prompt_embedding", found, MIN_EFFECT, detail
        )
        shown = {"prompt_embedding": round(found.effect, 4)} if found else {}
        return Observation(shown=shown, findings=findings)

    def _ask(
        self, calls: Sequence[LikelihoodCall], version: int, now: datetime
    ) -> tuple[list[float], str]:
        if now != self._step:
            self._step, self._left_s, self._left = now, LIMIT_S, MAX_TEXTS
        if not self._left:
            return [], "other windows had used up this cycle's limit"
        addresses = self._store.loaded_versions(self._model).addresses.get(version, ())
        began = time.monotonic()
        told, why = nats_per_token(addresses, calls[: self._left], self._left_s)
        self._left_s -= time.monotonic() - began
        self._left -= len(told)
        return told, why

    def _known(self, version: int) -> Embeddings:
        """Return the base model's embeddings. Raises DriftloopError or OSError if there are
        none."""
        deployment = self._store.require_deployment(self._model)
        served = deployment.version(version)
        if served is not None and served.base is not None:
            served = deployment.version(served.base)
        path = served.path.removeprefix("file://") if served else ""
        if not path or "://" in path:
            raise Rejected(
                f"the base model is at {path or 'an unknown place'}, which this role cannot read"
            )
        if self._embeddings is None or self._embeddings[0] != path:
            with open_artifacts(self._settings).use(path) as folder:
                self._embeddings = path, Embeddings(folder)
        return self._embeddings[1]

    def _findings(
        self,
        window: Window,
        version: int,
        check: str,
        column: str,
        found: Separation | Rise | None,
        least: float,
        detail: str,
    ) -> tuple[Finding, ...]:
        """Return a warning if the difference is large and significant."""
        alpha = self._settings.monitoring.drift_significance
        if found is None or found.effect < least or found.significance >= alpha:
            return ()
        return (
            Finding(
                finding_id=stable_id(window.window_id, check),
                model=self._model,
                version=version,
                kind=CheckKind.DRIFT,
                check=check,
                severity=Severity.WARNING,
                columns=(column,),
                effect=found.effect,
                significance=found.significance,
                window_id=window.window_id,
                at=window.ended_at,
                detail=detail,
            ),
        )
