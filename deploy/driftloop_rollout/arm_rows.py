"""Rows of the lake as rows of a rollout's two arms."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from driftloop_contracts.errors import Rejected
from driftloop_contracts.model import ModelSpec
from driftloop_evaluation.labels import arrived
from driftloop_evaluation.loss_rule import LossRule
from driftloop_evaluation.measures import QUALITY, Measure, all_losses
from driftloop_evaluation.scorer import Scorer
from driftloop_evaluation.settling import INSTANT
from driftloop_rollout.kind_evidence import EVIDENCE
from driftloop_rollout.units import NO_KEY
from driftloop_rollout.units import Floats as Losses

EPOCH = datetime.fromtimestamp(0, UTC)


@dataclass(frozen=True, slots=True)
class ArmRows:
    """Rows of both arms as arrays, in order of `at` (µs since 1970).

    first: the first row of its request; loss is NaN for a row that is not judged;
    labelled: whether all its labels have come; malformed: 0 to 1 for a language model's answers,
    else NaN; key: the routing key's hash, or NO_KEY. The latency of a language model is its seconds
    per token. others: the losses of each further objective, guardrail and slice, [k][n]; problem:
    why the losses could not be computed, all NaN then.
    """

    at: NDArray[np.int64]
    canary: NDArray[np.bool_]
    first: NDArray[np.bool_]
    latency_s: NDArray[np.float64]
    failed: NDArray[np.bool_]
    labelled: NDArray[np.bool_]
    loss: Losses
    malformed: Losses
    key: NDArray[np.int64]
    others: tuple[Losses, ...] = ()
    problem: str = ""

    def where(self, mask: NDArray[np.bool_] | slice) -> "ArmRows":
        return ArmRows(
            self.at[mask],
            self.canary[mask],
            self.first[mask],
            self.latency_s[mask],
            self.failed[mask],
            self.labelled[mask],
            self.loss[mask],
            self.malformed[mask],
            self.key[mask],
            tuple(losses[mask] for losses in self.others),
            self.problem,
        )

    def between(self, since: datetime, until: datetime) -> "ArmRows":
        """Return the rows with since ≤ at < until."""
        return self.where(slice(*np.searchsorted(self.at, [us_of(since), us_of(until)])))

    @property
    def has_both_arms(self) -> bool:
        return bool(self.canary.any() and not self.canary.all())

    def arms(self, values: Losses) -> tuple[Losses, Losses]:
        """Return the values of the canary and of the stable arm, without NaNs."""
        known = ~np.isnan(values)
        return values[known & self.canary], values[known & ~self.canary]


def read_arm_rows(
    table: pa.Table,
    spec: ModelSpec,
    scale: float | None,
    stable: int,
    candidate: int,
    scorer: Scorer | None = None,
    measures: Sequence[Measure] = (),
) -> ArmRows:
    """Rows of a `LakeReader.labelled` table that the split sent to either arm; callers who named
    a version chose it themselves and are left out. measures: the decisive one first; none: by the
    task, with the error scale `scale`."""
    arm, version = _numpy(table["arm"]), _numpy(table["version"])
    drawn = (arm == "canary") | (arm == "stable")
    canary = drawn & (version == candidate)  # the stable arm is its own after the promotion
    chosen = canary | (drawn & (version == stable))
    kind, problem = EVIDENCE[spec.kind], ""
    measures = measures or (Measure(QUALITY, LossRule(spec, scale), 1.0),)
    try:
        losses = all_losses(measures, table)
    except Rejected as error:
        losses, problem = [np.full(table.num_rows, np.nan)] * len(measures), str(error)
    malformed = kind.malformed(table, scorer)
    rows = ArmRows(
        at=table["predicted_at"].cast("int64").to_numpy(),
        canary=canary,
        first=_numpy(table["row"]) == 0,
        latency_s=_floats(table[kind.seconds]),
        failed=~_numpy(table["error"].is_null()).astype(bool),
        labelled=arrived(table, spec.awaited),
        loss=losses[0],
        malformed=malformed,
        key=_keys(table),
        others=tuple(losses[1:]),
        problem=problem or (scorer.problem if scorer else ""),
    )
    return rows.where(chosen)


def time_of(us: int) -> datetime:
    """Convert microseconds since 1970 to a time."""
    return EPOCH + us * INSTANT


def us_of(at: datetime) -> int:
    """Convert a time to microseconds since 1970."""
    return (at - EPOCH) // INSTANT


def _numpy(column: pa.ChunkedArray) -> NDArray[Any]:
    found: NDArray[Any] = column.to_numpy()
    return found


def _keys(table: pa.Table) -> NDArray[np.int64]:
    """Return the hashes of routing keys; tables of earlier releases have none."""
    if "routing_key_hash" not in table.schema.names:
        return np.full(table.num_rows, NO_KEY, np.int64)
    filled = table["routing_key_hash"].fill_null(NO_KEY)
    return np.asarray(filled.to_numpy(), dtype=np.int64)


def _floats(column: pa.ChunkedArray) -> NDArray[np.float64]:
    """Return the values with NaN for null."""
    return np.asarray(column.to_numpy(), dtype=np.float64)
