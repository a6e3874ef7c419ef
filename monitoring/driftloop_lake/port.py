"""The port for reading the lake. Times are aware UTC; nothing here writes."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

import pyarrow as pa

from driftloop_contracts.model import Arm


@dataclass(frozen=True, slots=True)
class Pin:
    """A version of a model's predictions table and of the labels table, read together.

    Reading through a pin returns the same rows forever (until retention removes them).
    """

    predictions: int
    labels: int

    def to_dict(self) -> dict[str, int]:
        return {"predictions": self.predictions, "labels": self.labels}


class LakeReader(Protocol):
    """Reads the lake through pins, so that every judgement can name the data that it saw."""

    def pin(self, model: str) -> Pin | None:
        """Return the newest versions; None if the lake has no prediction of the model."""

    def labelled(
        self,
        model: str,
        pin: Pin,
        *,
        as_of: datetime | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        newest: int | None = None,
        oldest: int | None = None,
        versions: tuple[int, ...] = (),
        arm: Arm | None = None,
        only_labelled: bool = True,
        metric: str = "label",
        tags: bool = False,
    ) -> pa.Table:
        """Return predictions joined with their latest label (of this metric) received up to
        `as_of`.

        Columns: those of `prediction_schema`, then `label` (JSON text), `label_number` (float64),
        `label_at` (when it was received) and, if requested, `label_tags` (JSON text). Rows have
        since ≤ predicted_at < until. `newest` keeps the newest N rows; `oldest` returns at least
        the oldest N rows and not many more, ending at a whole microsecond. Empty `versions` and
        `arm` None mean all. Rows answered with an error are included, with null outputs. Sorted by
        (predicted_at, prediction_id, row).
        """

    def most_after(self, model: str, pin: Pin, since: datetime | None) -> int:
        """Return a number that the rows with since ≤ predicted_at do not exceed, without reading
        any."""

    def answers_with(
        self, model: str, pin: Pin, metrics: Sequence[str], since: datetime | None
    ) -> int:
        """Return the number of the model's rows with a label of one of these metrics received after
        `since`."""

    def count(self, model: str, pin: Pin) -> "LakeCounts":
        """Return the number of rows in the predictions table, of duplicates of (prediction_id, row,
        replica, sequence) among them, and of labels for this model's predictions."""

    def missing(self, model: str, pin: Pin, version: int, replicas: Iterable[str]) -> int:
        """Return the number of a version's requests that these replicas captured and that are
        missing although later ones have arrived."""

    def unmatched_labels(self) -> int:
        """Return how many of the newest labels belong to a prediction that is not in any model's
        table yet."""


class ShadowAnswers(Protocol):
    """What candidates answered unseen to rows that the champion had answered (`arm = shadow`)."""

    def append(self, model: str, rollout_id: str, rows: pa.Table, until: datetime) -> None:
        """Archive the answers of a rollout to all rows before `until` that are not archived yet;
        what an earlier call archived is not written again. rows: `prediction_id`, `row`,
        `version`, `predicted_at`, `error` and `out_…`. Raises RetryLater."""

    def read(self, model: str, version: int, since: datetime, until: datetime) -> pa.Table:
        """Return the answers of a version to rows with since ≤ predicted_at < until, one for each
        (prediction_id, row). Raises RetryLater."""


class ShadowedLake(LakeReader, Protocol):
    """A reader of a lake in which shadow answers are archived, too."""

    def shadows(self) -> ShadowAnswers: ...


class PinnedLake(LakeReader, Protocol):
    """A reader that can also report what was read and what was not, for a record."""

    def answered(self, model: str, pin: Pin, since: datetime, until: datetime) -> int:
        """Return the number of rows with since ≤ predicted_at < until that were answered without an
        error, with and without a label."""

    def offsets(self, model: str, pin: Pin) -> dict[str, dict[str, int]]:
        """Return the last offset that each table (`predictions`, `labels`) contains, by
        `topic:partition`."""


@dataclass(frozen=True, slots=True)
class LakeCounts:
    """See `LakeReader.count`. `retries`: rows left out because another replica had already answered
    the same request of the client."""

    rows: int
    duplicates: int
    labels: int
    retries: int = 0
