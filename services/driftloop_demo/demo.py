"""Runs the demo from start to end, only through the public commands and HTTP."""

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path

from driftloop_contracts.errors import Unavailable
from driftloop_demo.data_set import LABEL, MODEL, TIME, LiveRows, live_rows, write_reference
from driftloop_demo.ending import books, nothing_was_lost, play, settled, tell_books
from driftloop_demo.replay import Replay
from driftloop_demo.stack import FREE_PORTS, Commands, Record, Say, make_room, read_status
from driftloop_demo.story import Story
from driftloop_demo.traffic import Traffic

SCENARIOS = ("drift", "bad-candidate")

SETTINGS = (
    *FREE_PORTS,
    # A replay covers months in a minute, so checks run more often than in production.
    "lake.flush_seconds=0.5", "monitoring.interval_s=1", "rollout.interval_s=1",
    "trigger.cooldown_s=600", "trigger.min_fresh_labels=6000",
    # Rows that are replayed in a minute follow no hour of the day. Ten demos in a row are many
    # rows: a false alert is to be rarer than in one night of production.
    "monitoring.rhythm=none", "monitoring.average_run_length=1000000",
)  # fmt: skip

RATE_BEFORE, RATE_AFTER, RATE_RETRAIN = 1_000.0, 500.0, 150.0
"""Rows per second before the drift, after it, and during a retrain. The file has few rows after the
drift, and the canary needs new ones."""
FIRST_ROW = 50_000
"""The start of the live rows; version 1 is trained on the rows before it."""
ROWS_AFTER_PROMOTION = 5_000
ROWS_BEFORE_BAD_CANDIDATE = 6_000
PATIENCE_S = 420.0
"""Seconds without an event after which the story is given up."""


def run_demo(
    scenario: str, seed: int, *, state_dir: Path | None, sets: Sequence[str], keep: bool, say: Say
) -> Record:
    """Run a scenario and return its summary; `ok`: whether the scenario had the expected
    outcome."""
    begun = time.monotonic()
    home = (state_dir or Path(".driftloop") / f"demo-{scenario}").absolute()
    make_room(home)
    command = Commands(home, [*SETTINGS, f"retrain.seed={seed}", *sets])
    say(
        ("driftloop demo", "bold"),
        ": a loan model is served, drift is injected, the loop repairs it",
    )
    say(f"all files are in {home}")
    try:
        endpoints = _prepare(command, home, say)
        ready = time.monotonic() - begun
        say((f"{ready:6.1f} s", "dim"), f"  version 1 answers at {endpoints['inference']}")
        say(f"         for details: driftloop status --watch --state-dir {home}")
        traffic = _traffic(live_rows(), scenario, seed, endpoints["inference"])
        story = Story(
            say, lambda: time.monotonic() - begun, lambda: traffic.sent, first_row=FIRST_ROW
        )
        traffic.rate = lambda row: _rate(scenario, traffic, story, row)
        story.seconds["ready"] = ready
        counts = asyncio.run(_play(scenario, traffic, story, command, endpoints["control"]))
        champion = read_status(endpoints["control"])["models"][0]["champion"]
        story.seconds["total"] = time.monotonic() - begun
        summary = summarise(scenario, traffic, story, counts, champion)
        _tell_end(summary, say)
        return summary
    finally:
        if keep:
            say(f"the stack keeps running; stop it with: driftloop down --state-dir {home}")
        else:
            command("down")


def _prepare(command: Commands, home: Path, say: Say) -> Record:
    """Train version 1 while the stack starts, then deploy it."""
    say("starting Kafka, Ray Serve and the watchers; training version 1 on the first 50,000 rows")
    reference, first = home / "reference.parquet", home / "first"
    write_reference(reference)
    starting = command.start("up", "--detach")
    training = command.start(
        "train",
        str(reference),
        "--name",
        MODEL,
        "--label",
        LABEL,
        "--time-column",
        TIME,
        "--drop",
        "id",
        "--output",
        str(first),
        "--family",
        "gradient-boosting",
    )
    endpoints: Record = command.result(starting)["endpoints"]
    say("watch it in the console: ", (f"{endpoints['control']}/", "bold"))
    trained = command.result(training)
    command("deploy", trained["spec"])
    return endpoints


def _traffic(rows: LiveRows, scenario: str, seed: int, inference: str) -> Traffic:
    limit = len(rows.labels) if scenario == "drift" else rows.drift_at
    return Traffic(rows, inference, seed, rate=lambda _: RATE_AFTER, replay=Replay(limit))


def _rate(scenario: str, traffic: Traffic, story: Story, row: int) -> float:
    if scenario == "drift" and row < traffic.rows.drift_at:
        return RATE_BEFORE
    return RATE_RETRAIN if story.retraining else RATE_AFTER


async def _play(
    scenario: str, traffic: Traffic, story: Story, command: Commands, control: str
) -> Record:
    """Send traffic until the scenario ends, then wait until every answer is in the lake."""
    await play(traffic.run, _watch(scenario, traffic, story, command, control))
    return await settled(control, traffic.answered, traffic.labelled)


async def _watch(
    scenario: str, traffic: Traffic, story: Story, command: Commands, control: str
) -> None:
    asked = told_drift = False
    answered_at_end: int | None = None
    while story.elapsed() - story.told_at < PATIENCE_S:
        status = await asyncio.to_thread(read_status, control)
        story.tell(status)
        if (
            scenario == "bad-candidate"
            and not asked
            and traffic.labelled >= ROWS_BEFORE_BAD_CANDIDATE
        ):
            asked = True
            story.line("a harmful candidate is forced past the gate")
            await asyncio.to_thread(
                command,
                "retrain",
                MODEL,
                "--recipe",
                "driftloop_demo.harmful:Harmful",
                "--override-gate",
                "--reason",
                "the demo forces a harmful candidate",
            )
        if not told_drift and scenario == "drift" and traffic.sent >= traffic.rows.drift_at:
            told_drift = True
            story.line("drift is injected")
        if story.over:
            answered_at_end = answered_at_end or traffic.answered
            enough = 0 if scenario == "bad-candidate" else ROWS_AFTER_PROMOTION
            if traffic.answered - answered_at_end >= enough:
                return
        await asyncio.sleep(0.5)
    raise Unavailable(
        f"nothing happened for {PATIENCE_S:.0f} s: driftloop status shows what is waiting"
    )


def summarise(
    scenario: str, traffic: Traffic, story: Story, counts: Record, champion: int
) -> Record:
    """Return the summary document; `ok`: whether the scenario's promises hold."""
    first, recovered = traffic.after.get(1), traffic.after.get(champion) if champion != 1 else None
    accuracy = {
        "before_drift": traffic.before.accuracy,
        "drifted": first.accuracy if first else None,
        "recovered": recovered.accuracy if recovered else None,
    }
    early = [a for a in story.alerts.values() if a["live_row"] < traffic.rows.drift_at]
    clean = nothing_was_lost(counts, traffic.answered) and not early
    if scenario == "drift":
        told = champion > 1 and (accuracy["recovered"] or 0.0) > (accuracy["drifted"] or 1.0)
    else:
        # It ends in the shadow: no user meets it.
        ended = (story.rollout or {}).get("state") == "rolled_back"
        told = champion == 1 and ended and not story.steps
    stages = ("ready", "alert", "retrain", "promotion", "total")
    return {
        "scenario": scenario,
        "ok": clean and told,
        "accuracy": {k: None if v is None else round(v, 4) for k, v in accuracy.items()},
        **books(story, counts, traffic.answered, traffic.client.retries, champion, stages),
        "alerts": [
            {k: a.get(k) for k in ("id", "at", "state", "message", "report", "live_row")}
            for a in story.alerts.values()
        ],
    }


def _tell_end(summary: Record, say: Say) -> None:
    accuracy = summary["accuracy"]
    shown = ", ".join(f"{k.replace('_', ' ')} {v:.3f}" for k, v in accuracy.items() if v)
    say(f"accuracy: {shown}")
    tell_books(summary, say, rows="rows answered", labels="labels")
