"""Watches the status document, reports each change once, and records when it happened."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from driftloop_demo.stack import Say

Record = dict[str, Any]
FINISHED_RETRAINS = ("succeeded", "rejected", "failed", "cancelled")
HOLDBACK = (
    "; the former champion keeps a part of the traffic until the labels of the promotion have come"
)
UNSEEN = "; the former champion answers in the shadow until the labels of the promotion have come"
FINISHED_ROLLOUTS = ("promoted", "rolled_back", "aborted")


@dataclass
class Story:
    """Reports the events of a demo; `tell` processes one status document. `elapsed`: seconds since
    the demo began; `rows`: the number of rows sent; `place`: the name of that number in the
    output."""

    say: Say
    elapsed: Callable[[], float]
    rows: Callable[[], int]
    place: str = "row"
    first_row: int = 0
    seconds: dict[str, float] = field(default_factory=dict)
    alerts: dict[str, Record] = field(default_factory=dict)
    rollout: Record | None = None
    steps: list[float] = field(default_factory=list)
    retrain: Record | None = None
    told_at: float = 0.0
    """When the last line was said, as `elapsed` has it."""
    _told: set[str] = field(default_factory=set)

    def tell(self, status: Record) -> None:
        for alert in reversed(status["alerts"]):
            if alert["kind"] != "role":  # for example a broker that starts slowly
                self._alert(alert)
        for retrain in reversed(status["retrains"]):
            self._retrain(retrain)
        for rollout in reversed(status["rollouts"]):
            self._rollout(rollout)

    @property
    def over(self) -> bool:
        """Whether a rollout has ended, or a retrain has ended without one."""
        if self.rollout is not None:
            return self.rollout["state"] in FINISHED_ROLLOUTS
        return self.retrain is not None and self.retrain["state"] in ("rejected", "failed")

    @property
    def retraining(self) -> bool:
        return self.retrain is not None and self.retrain["state"] in ("requested", "running")

    def _alert(self, alert: Record) -> None:
        if alert["id"] in self.alerts:
            self.alerts[alert["id"]].update(alert)
            return
        self.alerts[alert["id"]] = {**alert, "live_row": self.rows()}
        self.seconds.setdefault("alert", self.elapsed())
        self.line(("ALERT", "red"), f" {alert.get('message', alert['id'])}")

    def _retrain(self, retrain: Record) -> None:
        self.retrain = retrain
        self.seconds.setdefault("asked", self.elapsed())
        self._once(f"retrain {retrain['id']}", f"retrain: {retrain.get('reason', '')}")
        message = (retrain.get("progress") or {}).get("message")
        if message:
            self._once(f"progress {message}", f"retrain: {message}")
        if retrain["state"] in FINISHED_RETRAINS:
            self.seconds.setdefault("retrain", self.elapsed())
            self._once(f"ended {retrain['id']}", "retrain ", (retrain["state"], "bold"))

    def _rollout(self, rollout: Record) -> None:
        self.rollout = rollout
        if rollout["state"] == "shadow":
            self._once(
                f"shadow {rollout['id']}", "the candidate answers in the shadow; nobody sees it"
            )
        weight = float(rollout.get("weight") or 0.0)
        if rollout["state"] == "watched":
            how = HOLDBACK if rollout.get("holdback") else UNSEEN
            self._once(f"watched {rollout['id']}", "canary ", ("promoted", "bold"), how)
            return
        if weight > 0 and weight not in self.steps:
            self.steps.append(weight)
            self.line(f"canary gets {weight:.0%} of the traffic")
        if rollout["state"] in FINISHED_ROLLOUTS:
            self.seconds.setdefault("promotion", self.elapsed())
            verdict = rollout.get("verdict") or "undecided"
            self._once(
                f"rollout {rollout['id']}",
                "candidate ",
                (rollout["state"].replace("_", " "), "bold"),
                f": {verdict}; {rollout.get('reason', '')}",
            )

    def _once(self, key: str, *parts: str | tuple[str, str]) -> None:
        if key not in self._told:
            self._told.add(key)
            self.line(*parts)

    def line(self, *parts: str | tuple[str, str]) -> None:
        """Say it, with when and where."""
        self.told_at = self.elapsed()
        here = f"{self.place} {self.first_row + self.rows():,}"
        self.say((f"{self.elapsed():6.1f} s  {here}", "dim"), "  ", *parts)
