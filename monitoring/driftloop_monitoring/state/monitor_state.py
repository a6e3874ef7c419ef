"""The monitor's state of one model, stored between steps.

It is written last, after the records of each judgement. Their ids are derived from the previous
state: a judgement repeated after a crash writes the same records, which are stored once.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from driftloop_evaluation.measures import QUALITY
from driftloop_lake.capture_loss import CaptureLoss
from driftloop_monitoring.state.judge_state import JudgeState
from driftloop_monitoring.state.window_tries import WindowTries
from driftloop_monitoring.statistics.performance import Change, State
from driftloop_monitoring.statistics.positions import Position


@dataclass(frozen=True, slots=True)
class MonitorState:
    """windowed, tested: the positions of the last rows assigned to a window and judged by labels
    (None: no rows yet). broken, drifted: columns in the newest judged window. outbox: findings not
    yet sent to their topic. topic: that of the last decision. decisions: how many were written.
    loss: rows of this version missing in the lake, up to the newest window."""

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
    """Nats per token of the first corrected texts, as measured by a language model's engine."""
    judge: JudgeState | None = None
    tests: Mapping[str, State] = field(default_factory=dict)
    """Of further objectives, guardrails and slices, by the name of the measure."""
    tries: WindowTries | None = None
    """Of the oldest window that is not judged yet."""
    gave_up: bool = False
    """Whether the newest window was given up; its alert may still be open."""
    label_delays_s: tuple[float | None, ...] = ()
    """Seconds from prediction to label of the newest rows that were judged by their labels; None:
    their label did not come in time."""
    label_tries: WindowTries | None = None
    """Of the labels that were not tested yet."""
    gave_up_labels: bool = False
    """Whether the newest labels were given up; the alert may still be open."""
    measured: Mapping[str, Any] | None = None
    """The metrics of the newest labelled rows (`live_metrics`), to be shown."""

    expected_since: datetime | None = None
    """When the first of the newest windows began whose expected loss had clearly risen."""
    tested_since: int = 0
    """Rows since then that were tested by their labels."""

    @property
    def risen(self) -> tuple[str, Change] | None:
        """The measure that alerted (the decisive one before others), and the change it saw."""
        for name, test in ((QUALITY, self.test), *self.tests.items()):
            if test.alert is not None:
                return name, test.alert
        return None

    def promoted(self, version: int, now: datetime) -> "MonitorState":
        """Return the state after a change of the champion at `now`, from which later rows are
        judged."""
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
            "tests": {name: test.to_dict() for name, test in self.tests.items()},
            "tries": self.tries and self.tries.to_dict(),
            "gave_up": self.gave_up,
            "label_delays_s": list(self.label_delays_s),
            "label_tries": self.label_tries and self.label_tries.to_dict(),
            "gave_up_labels": self.gave_up_labels,
            "measured": self.measured,
            "expected_since": self.expected_since and self.expected_since.isoformat(),
            "tested_since": self.tested_since,
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
            {name: State.from_dict(test) for name, test in value.get("tests", {}).items()},
            _tries(value.get("tries")),
            value.get("gave_up", False),
            tuple(value.get("label_delays_s", ())),
            _tries(value.get("label_tries")),
            value.get("gave_up_labels", False),
            value.get("measured"),
            datetime.fromisoformat(value["expected_since"])
            if value.get("expected_since")
            else None,
            value.get("tested_since", 0),
        )


def _tries(value: Mapping[str, Any] | None) -> WindowTries | None:
    return WindowTries.from_dict(value) if value else None


class Standing:
    """Holds the state during a step and saves it after each judgement, so that later failures do
    not lose it."""

    def __init__(
        self, saved: MonitorState | None, fresh: MonitorState, save: Callable[[MonitorState], None]
    ) -> None:
        self.state = saved or fresh
        self._saved = saved
        self._save = save

    def put(self, state: MonitorState) -> None:
        """Save a new state. Raises as `save` does; the state is then unchanged."""
        if state != self._saved:
            self._save(state)
            self._saved = state
        self.state = state
