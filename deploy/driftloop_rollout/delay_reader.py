"""Reads from the lake how long the labels of the champion's rows take. Rows of every age are
needed, and the newest thousands may all be of the last minute: so some of each age are read."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from driftloop_contracts.errors import Rejected
from driftloop_evaluation.labels import arrived
from driftloop_evaluation.measures import Measure, all_losses
from driftloop_evaluation.settling import SETTLE
from driftloop_lake.port import LakeReader, Pin
from driftloop_rollout.label_delay import LabelDelay, learn_delay
from driftloop_rollout.units import Floats, Ints

AGES = tuple(timedelta(seconds=30 * 4**k) for k in range(10))
"""Up to three months."""
ROWS = 400
"""Of each age."""
MOST_CLASSES = 50
"""With more different labels they are values, not classes."""


def read_delay(
    lake: LakeReader,
    model: str,
    pin: Pin,
    version: int,
    measures: Sequence[Measure],
    nearly_all: float,
    now: datetime,
    lag: timedelta,
) -> LabelDelay:
    """Learn the delay of the labels of a version's rows. lag: how long a label takes into the lake
    once it was received; it is part of the age."""
    rows = _sample(lake, model, pin, version, now)
    if not rows.num_rows:
        return LabelDelay(learned_at=now)
    lag += SETTLE
    at: Ints = rows["predicted_at"].cast("int64").to_numpy()
    known = arrived(rows, measures[0].rule.spec.awaited if measures else ())
    label_at = rows["label_at"].cast("int64").cast("float64").to_numpy()
    label_at = np.where(known, label_at, np.nan)
    seen_until = float(np.nanmax(np.append(label_at, at))) - lag / timedelta(microseconds=1)
    old = at <= seen_until
    delays: Floats = np.asarray(np.maximum(label_at - at, 0.0) / 1e6, np.float64)
    delays[np.isnan(label_at) | (label_at > seen_until)] = np.nan
    classes = [c[old] for c in (*_labels(rows, known), *_losses(rows, measures))]
    ages: Floats = np.asarray((seen_until - at) / 1e6, np.float64)
    found = learn_delay(delays[old], ages[old], nearly_all, now, classes)
    if found.age_s is None:
        return found
    return replace(found, age_s=found.age_s + lag.total_seconds())


def _sample(lake: LakeReader, model: str, pin: Pin, version: int, now: datetime) -> pa.Table:
    parts, until = [], now
    for age in AGES:
        since = now - age
        part = lake.labelled(
            model,
            pin,
            since=since,
            until=until,
            oldest=ROWS,
            versions=(version,),
            only_labelled=False,
        )
        part = part.slice(0, ROWS)
        parts.append(part.filter(part["error"].is_null()))
        until = since
    return pa.concat_tables(parts, promote_options="permissive")


def _labels(rows: pa.Table, known: NDArray[np.bool_]) -> list[Ints]:
    labels = pc.if_else(pa.array(known), rows["label"].combine_chunks(), None).dictionary_encode()
    if len(labels.dictionary) > MOST_CLASSES:
        return []
    return [labels.indices.fill_null(-1).to_numpy().astype(np.int64)]


def _losses(rows: pa.Table, measures: Sequence[Measure]) -> list[Ints]:
    try:
        losses: Floats = all_losses(measures[:1], rows)[0] if measures else np.zeros(0)
    except Rejected:  # the verdict says so itself
        return []
    if not len(losses) or np.isnan(losses).all():
        return []
    return [(losses > np.nanmean(losses)).astype(np.int64)]
