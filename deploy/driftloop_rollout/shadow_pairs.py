"""Rows that the champion answered beside the candidate's answers to them. Pure."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from hashlib import blake2b
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from driftloop_contracts.errors import Rejected
from driftloop_contracts.events import OUTPUT_PREFIX
from driftloop_evaluation.labels import arrived
from driftloop_evaluation.measures import Measure, all_losses
from driftloop_evaluation.settling import INSTANT
from driftloop_rollout import arm_metrics
from driftloop_rollout.arm_rows import time_of, us_of
from driftloop_rollout.shadow_stage import ShadowStage
from driftloop_rollout.units import Floats

_KEY = ["prediction_id", "row"]
LEAST_ROWS = 50
"""With fewer rows the share that has a label is unreliable."""


def drawn_for(rows: pa.Table, share: float, began: datetime) -> NDArray[np.bool_]:
    """Whether the shadow answers each row: all that were answered before it began, later ones of a
    `share` of the predictions, chosen by their ids."""
    found = us(rows) < us_of(began)
    if share >= 1.0:
        return np.ones(len(found), bool)
    ids = rows["prediction_id"].to_pylist()
    return np.array([old or _draw(id_) < share for old, id_ in zip(found, ids, strict=True)], bool)


def _draw(prediction_id: str) -> float:
    digest = blake2b(prediction_id.encode(), digest_size=8, person=b"shadow").digest()
    return int.from_bytes(digest, "big") / 2**64


def complete_until(
    rows: pa.Table, coverage: float, mature: datetime | None, labels: Sequence[str] | None = ()
) -> datetime | None:
    """Return up to which time rows may be compared by their labels: up to where a share `coverage`
    of them has one, or up to `mature`, before which no more labels come; None if there are none.
    labels: their keys, if a row has several (`ModelSpec.awaited`). Labels that come sooner for one
    class would otherwise be compared first."""
    if not rows.num_rows:
        return None
    at, labelled = us(rows), arrived(rows, labels)
    share = np.cumsum(labelled) / np.arange(1, len(at) + 1)
    good = (share >= coverage) & (np.arange(len(at)) >= min(LEAST_ROWS, len(at)) - 1)
    if mature is not None:
        good |= at < us_of(mature)
    places = np.flatnonzero(good)
    return time_of(int(at[places[-1]])) + INSTANT if len(places) else None


def beside(champion: pa.Table, answers: pa.Table) -> tuple[pa.Table, pa.Table]:
    """Return the rows that both answered, in order of time: as the champion answered them, and the
    same rows with the candidate's outputs and errors."""
    mine = champion.select(_KEY).append_column("i", _numbers(champion))
    theirs = answers.select(_KEY).append_column("j", _numbers(answers))
    both = mine.join(theirs, keys=_KEY, join_type="inner").sort_by("i")
    champion, answers = champion.take(both["i"]), answers.take(both["j"])
    candidate = champion
    for name in champion.column_names:
        if name.startswith(OUTPUT_PREFIX) or name == "error":
            place = candidate.schema.get_field_index(name)
            if name in answers.column_names:
                candidate = candidate.set_column(place, name, answers[name])
            else:
                candidate = candidate.remove_column(place)
    return champion, candidate


def paired_losses(
    measures: Sequence[Measure], champion: pa.Table, candidate: pa.Table
) -> dict[str, tuple[Floats, Floats]]:
    """Return the candidate's and the champion's losses [n] by measure; NaN where either failed.
    Raises Rejected if outputs or labels cannot serve a measure."""
    failed = ~(np.asarray(champion["error"].is_null()) & np.asarray(candidate["error"].is_null()))
    pairs = zip(all_losses(measures, candidate), all_losses(measures, champion), strict=True)
    found = {}
    for measure, (theirs, mine) in zip(measures, pairs, strict=True):
        found[measure.name] = np.where(failed, np.nan, theirs), np.where(failed, np.nan, mine)
    return found


def bet(
    stage: ShadowStage, measures: Sequence[Measure], rows: pa.Table, answers: pa.Table
) -> ShadowStage:
    """Bet on rows with labels and the candidate's answers to them."""
    if not answers.num_rows:
        return stage
    champion, candidate = beside(rows, answers)
    try:
        losses = paired_losses(measures, champion, candidate)
    except Rejected as error:
        return replace(stage, problem=str(error))
    after = replace(stage, trial=stage.trial.update(losses), problem="")
    if measures and champion.num_rows > stage.metrics.get("champion", {}).get("rows", 0):
        spec, at = measures[0].rule.spec, stage.paired_until
        return replace(after, metrics=arm_metrics.measured(spec, candidate, champion, at))
    return after


def us(rows: pa.Table) -> NDArray[np.int64]:
    """Times of rows, µs since 1970."""
    found: Any = rows["predicted_at"].cast(pa.int64()).to_numpy()
    return np.asarray(found, dtype=np.int64)


def _numbers(rows: pa.Table) -> pa.Array:
    return pa.array(np.arange(rows.num_rows))
