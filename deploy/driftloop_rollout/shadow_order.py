"""Which of the champion's rows a candidate answers next. Pure."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from driftloop_contracts.events import INPUT_PREFIX, OUTPUT_PREFIX
from driftloop_contracts.kind import LANGUAGE, TABULAR, ModelKind
from driftloop_contracts.language import read_json
from driftloop_contracts.model import ServedVersion
from driftloop_contracts.shadow_call import OPERATIONS
from driftloop_evaluation.settling import INSTANT, settled_until
from driftloop_rollout.arm_rows import time_of, us_of
from driftloop_rollout.shadow_pairs import drawn_for, us
from driftloop_rollout.shadow_rows import askable

ORDER_ROWS = 5_000
CONVERSATIONS = 32
"""Of a language model, which a second or more is spent on each."""
MOST_VALUES = 4_000_000
"""Rows are read in smaller parts if they have many columns."""
LOOK_AGAIN = timedelta(seconds=1)
TIMEOUT = "Timeout"
"""The champion's error of a request that waited too long, which says nothing of its graph."""
_TIME = pa.timestamp("us", tz="UTC")


@dataclass(frozen=True, slots=True)
class Draw:
    """share: of the live rows, which are those since `began`. most_tokens: of the candidate's
    answers, if it generates any."""

    share: float
    began: datetime
    most_tokens: int


def rows_of(candidate: ServedVersion, rows: int) -> int:
    width = len(candidate.signature.accepted) + len(candidate.signature.outputs)
    return max(100, min(rows, MOST_VALUES // max(1, width)))


def complete_rows(rows: pa.Table, since: datetime, now: datetime) -> tuple[pa.Table, datetime]:
    """Return those of the oldest rows since `since` that are all there were up to a time, and that
    time."""
    if not rows.num_rows:
        return rows, since
    newest = time_of(int(us(rows)[-1]))
    until = max(since, settled_until(newest, now))
    if until <= time_of(int(us(rows)[0])) and now - newest > LOOK_AGAIN * 3:
        until = newest + INSTANT  # the rows of one second fill an order
    return before(rows, until), until


def before(rows: pa.Table, until: datetime) -> pa.Table:
    return rows.filter(pc.less(rows["predicted_at"], pa.scalar(until, _TIME)))


def ordered(
    rows: pa.Table, until: datetime, candidate: ServedVersion, kind: ModelKind, draw: Draw
) -> tuple[pa.Table, datetime]:
    """Return the rows that the candidate answers of all those before `until`, and up to which time
    that is decided."""
    rows = rows.filter(pc.equal(rows["arm"], "stable"))
    rows = rows.filter(pc.not_equal(rows["error"].fill_null(""), TIMEOUT))
    rows = rows.filter(pa.array(drawn_for(rows, draw.share, draw.began)))
    rows = askable(rows, candidate.signature)
    return _ORDERED[kind](rows, until, draw)


def _conversations(rows: pa.Table, until: datetime, draw: Draw) -> tuple[pa.Table, datetime]:
    """One answer of each prediction. Older ones in their order; of live ones only the newest, so
    that the shadow never falls behind."""
    tokens = np.asarray(rows[f"{OUTPUT_PREFIX}completion_tokens"].fill_null(0))
    keep = (np.asarray(rows["row"]) == 0) & (2 * tokens <= draw.most_tokens)
    reasons = rows[f"{OUTPUT_PREFIX}finish_reason"].to_pylist()
    operations = rows[f"{INPUT_PREFIX}operation"].to_pylist()
    parameters = rows[f"{INPUT_PREFIX}parameters"].to_pylist()
    keep &= np.array(
        [
            operation in OPERATIONS and reason != "abort" and _is_whole(asked)
            for operation, reason, asked in zip(operations, reasons, parameters, strict=True)
        ],
        bool,
    )
    rows = rows.filter(pa.array(keep))
    at = us(rows)
    old = int((at < us_of(draw.began)).sum())
    if not old:
        return rows.slice(max(0, rows.num_rows - CONVERSATIONS)), until
    if old > CONVERSATIONS:
        until = time_of(int(at[CONVERSATIONS]))
        if until <= time_of(int(at[0])):
            until += INSTANT
    elif old < rows.num_rows:
        until = time_of(int(at[old]))
    return before(rows, until), until


def _is_whole(parameters: str | None) -> bool:
    """Whether the conversation does not continue one that the engine has forgotten."""
    asked = read_json(parameters)
    return isinstance(asked, dict) and not asked.get("previous_response_id")


_Choose = Callable[[pa.Table, datetime, Draw], tuple[pa.Table, datetime]]
_ORDERED: Mapping[ModelKind, _Choose] = {
    TABULAR: lambda rows, until, _: (rows, until),
    LANGUAGE: _conversations,
}
