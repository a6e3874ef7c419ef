"""Counts the rows of a version's predictions that did not reach the lake, by reason if it is known.

Two sources are combined. The ledger accounts for what replicas served, up to Kafka. The lake shows
losses after that: a replica numbers the requests that it captures without gaps, so a skipped number
is a loss (`writer.missing_mark`).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from driftloop_contracts.judgement import unexplained
from driftloop_lake.port import LakeReader, Pin

NUMBERED = ("too_large", "damaged")
"""Reasons for dropping requests that already have a sequence number."""


@dataclass(frozen=True, slots=True)
class CaptureLoss:
    """Losses since the version's first prediction. dropped: rows by reason; unaccounted: rows
    missing in the ledger; missing: requests missing in the lake."""

    dropped: Mapping[str, int] = field(default_factory=dict)
    unaccounted: int = 0
    missing: int = 0

    @property
    def unexplained(self) -> int:
        explained = sum(self.dropped.get(reason, 0) for reason in NUMBERED)
        return self.unaccounted + max(0, self.missing - explained)

    def dropped_since(self, before: "CaptureLoss") -> dict[str, int]:
        more = {r: rows - before.dropped.get(r, 0) for r, rows in self.dropped.items()}
        return {reason: rows for reason, rows in more.items() if rows > 0}

    def unexplained_since(self, before: "CaptureLoss") -> int:
        return max(0, self.unexplained - before.unexplained)

    def to_dict(self) -> dict[str, Any]:
        return {
            "dropped": dict(self.dropped),
            "unaccounted": self.unaccounted,
            "missing": self.missing,
        }

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> "CaptureLoss":
        return cls(**value)


def capture_loss(
    ledger: Iterable[Mapping[str, Any]], lake: LakeReader, model: str, pin: Pin, version: int
) -> CaptureLoss:
    """Compute the loss from the store's ledger of the model and the lake at `pin`. Surpluses of one
    replica never offset losses of another."""
    dropped: dict[str, int] = {}
    unaccounted, replicas = 0, []
    for entry in ledger:
        if entry["version"] == version:
            replicas.append(entry["replica"])
            unaccounted += unexplained(entry)
            for reason, rows in entry["dropped"].items():
                dropped[reason] = dropped.get(reason, 0) + rows
    return CaptureLoss(dropped, unaccounted, lake.missing(model, pin, version, replicas))
