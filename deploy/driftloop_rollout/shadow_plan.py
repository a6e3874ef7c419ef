"""Whether a candidate can be shadowed, from which row on, and by what it is judged there."""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import numpy as np
import pyarrow as pa

from driftloop_artifacts import Files
from driftloop_contracts.errors import NotFound, Rejected
from driftloop_contracts.model import ModelSpec, ServedVersion
from driftloop_evaluation.measures import Measures
from driftloop_evaluation.settling import INSTANT
from driftloop_lake.port import LakeReader, Pin
from driftloop_rollout.beside_quality import GUARD_PROOF
from driftloop_rollout.margins import Margins
from driftloop_rollout.pairs import PairMetric, PairTrial
from driftloop_rollout.shadow_stage import SHARE, Agreement, ShadowStage
from driftloop_rollout.verdict import Rule
from driftloop_settings import RolloutSettings


@dataclass(frozen=True, slots=True)
class Compared:
    """How answers are compared. replayed: the most labelled rows that are newer than its training
    data and that the candidate answers. paired: the measures that hold for both answers. begun:
    the stage of this kind of model, from the plain one."""

    replayed: int
    paired: Callable[[Measures], Measures] = lambda measures: measures
    begun: Callable[[ShadowStage], ShadowStage] = lambda stage: stage


def check_possible(
    candidate: ServedVersion, spec: ModelSpec, rules: RolloutSettings, files: Files
) -> None:
    """Raises Rejected if there is no shadow, whatever rows there are."""
    if not rules.shadow_share:
        raise Rejected("rollout.shadow_share is 0")
    if not spec.kind.has_engine:
        with files(candidate.path) as folder:
            if not folder.exists():
                raise Rejected("the candidate's files are not on the machine of the rollout's role")


def replayed_since(
    lake: LakeReader,
    model: str,
    pin: Pin,
    champion: int,
    candidate: ServedVersion,
    most_rows: int,
    now: datetime,
    files: Files,
) -> tuple[datetime, str]:
    """Return the time from which on the candidate answers rows, at most `most_rows` labelled ones
    before now; and what people should know of it."""
    trained = trained_until(lake, model, candidate, files)
    if trained is None:
        return now, "the data that the candidate was trained on are unknown: only live rows count"
    if not most_rows:
        return now, ""
    rows = lake.labelled(model, pin, since=trained, newest=most_rows, versions=(champion,))
    return (rows["predicted_at"][0].as_py() if rows.num_rows else now), ""


def trained_until(
    lake: LakeReader, model: str, candidate: ServedVersion, files: Files
) -> datetime | None:
    """Return the time after the newest row of the candidate's training data, by the lineage beside
    its graph; None if it has none."""
    try:
        with files(candidate.path) as folder:
            data = json.loads((folder / "lineage.json").read_text())["data"]
        pin, as_of = Pin(data["predictions"], data["labels"]), datetime.fromisoformat(data["as_of"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    try:
        newest = lake.labelled(model, pin, as_of=as_of, newest=1)
    except NotFound:  # the version is not kept any more: all that was there then
        return as_of
    found: datetime = newest["predicted_at"][-1].as_py() if newest.num_rows else as_of
    return found + INSTANT


def begun(
    spec: ModelSpec,
    measures: Measures,
    margins: Margins,
    past: pa.Table,
    since: datetime,
    now: datetime,
    notes: tuple[str, ...] = (),
) -> ShadowStage:
    """Return the stage before any row was answered. past: the champion's newest rows."""
    judged_by = measures.all
    depends = spec.labels_depend_on_answer and not all(one.by_answer for one in judged_by)
    if depends:
        notes = (*notes, "labels depend on the answer: only agreement and errors are compared")
    if depends or (spec.task == "regression" and spec.objective is None and measures.scale is None):
        judged_by = ()
    errors = Rule("errors", margins.errors, not judged_by, share=SHARE)
    rules = [errors]
    for measure in judged_by:
        guard = GUARD_PROOF * measure.margin
        rule = Rule(measure.name, measure.margin, measure.decisive, guard, share=SHARE)
        rules.append(replace(rule, of=measure.of))
    parts = (m.part.name for m in judged_by if m.part is not None)
    latency = np.asarray(past["latency_s"].to_numpy(), dtype=np.float64)
    return ShadowStage(
        began=now,
        since=since,
        answered_until=since,
        paired_until=since,
        trial=PairTrial(tuple(map(PairMetric.start, rules))),
        measures=tuple(measure.to_dict() for measure in judged_by),
        agreement=(Agreement(""), *map(Agreement, parts)),
        champion_s=float(np.nanmedian(latency)) if np.isfinite(latency).any() else None,
        notes=tuple(filter(None, notes)),
    )


def is_late(stage: ShadowStage, rules: RolloutSettings, now: datetime) -> bool:
    return now - stage.began > timedelta(seconds=rules.shadow_s)
