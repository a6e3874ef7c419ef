"""The monitor's state of one model, kept in the store between steps.

It is written last, after the records of each judgement. Their ids are made from the state before: a
judgement that is repeated after a crash writes the same records again, and they are kept once.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from driftloop_lake.capture_loss import CaptureLoss
from driftloop_monitoring.state.judge_state import JudgeState
from driftloop_monitoring.statistics.performance import State
from driftloop_monitoring.statistics.positions import Position


@dataclass(frozen=True, slots=True)
class MonitorState:
    """windowed, tested: the last rows that were cut into windows, and judged by their labels (None:
    none yet); broken, drifted: columns in the newest judged window; outbox: findings not yet on
    their topic; topic: of the last decision; decisions: how many were written; loss: rows of this
    version that did not reach the lake, up to the newest window."""

    version: int
    schedule_checked: datetime
    windowed: Position | None = None
    tested: Position | None = None
    test: State = field(default_factory=State)
    broken: tuple[str, ...] = ()
    drifted: tuple[str, ...] = ()
    outbox: tuple[Mapping[str, Any], ...] = ()
    topic: str = ""
    decisions: int = 0
    loss: CaptureLoss = field(default_factory=CaptureLoss)
    nats: tuple[float, ...] = ()
    """Nats per token of the first corrected texts, as a language model's engine measured them."""
    judge: JudgeState | None = None

    def promoted(self, version: int, now: datetime) -> "MonitorState":
        """After a change of the champion at `now`: later rows are judged, from scratch."""
        here = Position(now)
        return MonitorState(
            version, self.schedule_checked, here, here, outbox=self.outbox, decisions=self.decisions
        )

    def to_dict(self) -> dict[str, Any]:
        return {
            "version": self.version,
            "schedule_checked": self.schedule_checked.isoformat(),
            "windowed": self.windowed and self.windowed.to_dict(),
            "tested": self.tested and self.tested.to_dict(),
            "test": self.test.to_dict(),
            "broken": list(self.broken),
            "drifted": list(self.drifted),
            "outbox": list(self.outbox),
            "topic": self.topic,
            "decisions": self.decisions,
            "loss": self.loss.to_dict(),
            "nats": list(self.nats),
            "judge": self.judge and self.judge.to_dict(),
        }

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> "MonitorState":
        return cls(
            value["version"],
            datetime.fromisoformat(value["schedule_checked"]),
            Position.from_dict(value["windowed"]) if value["windowed"] else None,
            Position.from_dict(value["tested"]) if value["tested"] else None,
            State.from_dict(value["test"]),
            tuple(value["broken"]),
            tuple(value["drifted"]),
            tuple(value["outbox"]),
            value["topic"],
            value["decisions"],
            CaptureLoss.from_dict(value.get("loss", {})),
            tuple(value.get("nats", ())),
            JudgeState.from_dict(value["judge"]) if value.get("judge") else None,
        )


class Standing:
    """The state between the judgements of a step: each is saved at once, whatever fails later."""

    def __init__(
        self, saved: MonitorState | None, fresh: MonitorState, save: Callable[[MonitorState], None]
    ) -> None:
        self.state = saved or fresh
        self._saved = saved
        self._save = save

    def put(self, state: MonitorState) -> None:
        """Raises as `save` does; then the state is as before."""
        if state != self._saved:
            self._save(state)
            self._saved = state
        self.state = state
