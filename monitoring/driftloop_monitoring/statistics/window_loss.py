"""Measures the rows missing in a window, and whether it can still be judged."""

from collections.abc import Mapping
from dataclasses import dataclass

from driftloop_contracts.capture import SAMPLED

NOTED_SHARE, DOUBTFUL_SHARE = 0.01, 0.5
"""The shares of dropped rows that are noted, and that make a window inconclusive: the remaining
rows may differ systematically from the served ones."""


@dataclass(frozen=True, slots=True)
class WindowLoss:
    """The loss of a window of `rows` rows. `doubt`: why it cannot be judged, or ""; `note`: a
    remark for the window's reader, or ""."""

    rows: int
    dropped: Mapping[str, int]
    unexplained: int

    @property
    def doubt(self) -> str:
        if self.unexplained:
            return f"{self.unexplained} served rows are unaccounted for"
        return self._sentence if self._share > DOUBTFUL_SHARE else ""

    @property
    def note(self) -> str:
        return self._sentence if self._share > NOTED_SHARE else ""

    @property
    def _lost(self) -> dict[str, int]:
        return {reason: rows for reason, rows in self.dropped.items() if reason != SAMPLED}

    @property
    def _share(self) -> float:
        lost = sum(self._lost.values())
        return lost / (lost + self.rows) if lost else 0.0

    @property
    def _sentence(self) -> str:
        reasons = ", ".join(f"{reason}: {rows:,}" for reason, rows in sorted(self._lost.items()))
        return f"{self._share:.0%} of the served rows were not captured ({reasons})"
