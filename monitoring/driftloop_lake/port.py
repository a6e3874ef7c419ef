"""What readers ask of the lake. `pa` is pyarrow; times are aware UTC; nothing here mutates."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

import pyarrow as pa

from driftloop_contracts.model import Arm


@dataclass(frozen=True, slots=True)
class Pin:
    """A version of a model's predictions table and of the labels table, read together.

    Reading through a pin gives the same rows forever (until retention removes them).
    """

    predictions: int
    labels: int

    def to_dict(self) -> dict[str, int]:
        return {"predictions": self.predictions, "labels": self.labels}


class LakeReader(Protocol):
    """All reads go through a pin, so that every judgement can name the data that it saw."""

    def pin(self, model: str) -> Pin | None:
        """The newest versions, or None while the model has no prediction in the lake."""

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
        """Predictions joined with their latest label (of this metric) received up to `as_of`.

        Columns: those of `prediction_schema`, then `label` (JSON text), `label_number` (float64),
        `label_at` (received), and if they are asked for `label_tags` (JSON text). since ≤
        predicted_at < until; `newest` keeps the newest N rows; `oldest` reads at least the oldest N
        rows and not many more, in whole microseconds; `versions` empty and `arm` None mean all.
        Rows answered with an error are included, their outputs null. Sorted by (predicted_at,
        prediction_id, row).
        """

    def answers_with(
        self, model: str, pin: Pin, metrics: Sequence[str], since: datetime | None
    ) -> int:
        """Rows of the model with a label of one of these metrics that was received after
        `since`."""

    def count(self, model: str, pin: Pin) -> "LakeCounts":
        """Rows of the predictions table, how many of them are duplicates of
        (prediction_id, row, replica, sequence), and labels for this model's predictions."""

    def missing(self, model: str, pin: Pin, version: int, replicas: Iterable[str]) -> int:
        """Requests of a version that these replicas captured and that never came: later ones
        did."""

    def unmatched_labels(self) -> int:
        """How many labels, of the newest there are, wait for a prediction that is in no model's
        table yet."""


class PinnedLake(LakeReader, Protocol):
    """Also tells where in Kafka a pin ends, for those who write down what they read."""

    def offsets(self, model: str, pin: Pin) -> dict[str, dict[str, int]]:
        """By table (`predictions`, `labels`) and `topic:partition`, the last offset that it
        holds."""


@dataclass(frozen=True, slots=True)
class LakeCounts:
    """See `LakeReader.count`. `retries`: rows that were left out, since they are a client's retry
    of what another replica had answered."""

    rows: int
    duplicates: int
    labels: int
    retries: int = 0
