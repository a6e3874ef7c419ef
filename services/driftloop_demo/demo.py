"""Runs the demo from start to end, only through the public commands and HTTP."""

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from driftloop_contracts.errors import Unavailable
from driftloop_demo import rare
from driftloop_demo.data_set import LABEL, MODEL, TIME, live_rows, loans, write_reference
from driftloop_demo.ending import books, nothing_was_lost, play, settled, tell_books
from driftloop_demo.replay import KEPT_ROWS, Replay
from driftloop_demo.stack import (
    FREE_PORTS,
    Commands,
    Record,
    Say,
    make_room,
    read_status,
    tell_console,
)
from driftloop_demo.story import Story
from driftloop_demo.traffic import Traffic

SCENARIOS: tuple[str, ...] = ("drift", "rare", "bad-candidate")

SETTINGS = (
    *FREE_PORTS,
    # A replay covers months in a minute, so checks run more often than in production.
    "lake.flush_seconds=0.5", "monitoring.interval_s=1", "rollout.interval_s=1",
    "trigger.cooldown_s=600", "trigger.min_fresh_labels=6000",
    # Nobody watches a search for better parameters.
    "retrain.budget_s=0",
    # Rows that are replayed in a minute follow no hour of the day. Ten demos in a row are many
    # rows: a false alert is to be rarer than in one night of production.
    "monitoring.rhythm=none", "monitoring.average_run_length=1000000",
    # The demo's own clients keep the cores busy.
    "rollout.shadow_busy_from=1",
)  # fmt: skip

RATE_BEFORE, RATE_AFTER, RATE_RETRAIN = 1_000.0, 800.0, 150.0
"""Rows per second before the drift, after it, and during a retrain. The file has few rows after the
drift, and the canary needs new ones."""
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
    given = [*SETTINGS, f"retrain.seed={seed}", *sets]
    tell_console(home, given, say)
    command = Commands(home, given)
    say(
        ("driftloop demo", "bold"),
        ": a loan model is served, drift is injected, the loop repairs it",
    )
    say(f"all files are in {home}")
    table, label = loans(), LABEL
    if scenario == "rare":
        table, label = rare.rare_table(table), rare.LABEL
        say("one loan in 200 defaults; the drift brings defaults of another kind")
    try:
        endpoints = _prepare(scenario, command, table, label, home, say)
        ready = time.monotonic() - begun
        say((f"{ready:6.1f} s", "dim"), f"  version 1 answers at {endpoints['inference']}")
        say(f"         for details: driftloop status --watch --state-dir {home}")
        rows = live_rows(table, label)
        limit = rows.drift_at if scenario == "bad-candidate" else len(rows.labels)
        replay = Replay(limit, rare.KEPT_ROWS if scenario == "rare" else KEPT_ROWS)
        traffic = Traffic(rows, endpoints["inference"], seed, lambda _: RATE_AFTER, replay)
        first = table.num_rows - len(rows.labels)
        story = Story(say, lambda: time.monotonic() - begun, lambda: traffic.sent, first_row=first)
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


def _prepare(
    scenario: str, command: Commands, table: pa.Table, label: str, home: Path, say: Say
) -> Record:
    """Train version 1 on the rows before the live ones while the stack starts, then deploy it."""
    say("starting Kafka, Ray Serve and the watchers; training version 1 on the reference rows")
    reference, first = home / "reference.parquet", home / "first"
    write_reference(table, reference)
    family = f"{rare.__name__}:Costly" if scenario == "rare" else "gradient-boosting"
    starting = command.start("up", "--detach")
    training = command.start(
        "train",
        str(reference),
        "--name",
        MODEL,
        "--label",
        label,
        "--time-column",
        TIME,
        "--drop",
        "id",
        "--output",
        str(first),
        "--family",
        family,
    )
    endpoints: Record = command.result(starting)["endpoints"]
    trained = command.result(training)
    if scenario == "rare":
        rare.with_objective(Path(trained["spec"]))
    command("deploy", trained["spec"])
    return endpoints


def _rate(scenario: str, traffic: Traffic, story: Story, row: int) -> float:
    if scenario != "bad-candidate" and row < traffic.rows.drift_at:
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
        drifts = scenario != "bad-candidate" and traffic.sent >= traffic.rows.drift_at
        if drifts and not told_drift:
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
    spans = {"before_drift": traffic.before, "drifted": first, "recovered": recovered}
    accuracy = {name: tally.accuracy if tally else None for name, tally in spans.items()}
    recall = {name: tally.recall if tally else None for name, tally in spans.items()}
    early = [a for a in story.alerts.values() if a["live_row"] < traffic.rows.drift_at]
    clean = nothing_was_lost(counts, traffic.answered) and not early
    if scenario == "drift":
        told = champion > 1 and (accuracy["recovered"] or 0.0) > (accuracy["drifted"] or 1.0)
    elif scenario == "rare":
        # Accuracy would not have told: pairs prove the candidate by what errors cost.
        proven = "quality" in ((story.rollout or {}).get("shadow") or {}).get("proven", ())
        found, lost = recall["recovered"] or 0.0, recall["drifted"]
        told = champion > 1 and proven and lost is not None and lost < found
    else:
        # It ends in the shadow: no user meets it.
        ended = (story.rollout or {}).get("state") == "rolled_back"
        told = champion == 1 and ended and not story.steps
    stages = ("ready", "alert", "retrain", "promotion", "total")
    return {
        "scenario": scenario,
        "ok": clean and told,
        "accuracy": {k: None if v is None else round(v, 4) for k, v in accuracy.items()},
        **({"recall": recall} if scenario == "rare" else {}),
        **books(story, counts, traffic.answered, traffic.client.retries, champion, stages),
        "alerts": [
            {k: a.get(k) for k in ("id", "at", "state", "message", "report", "live_row")}
            for a in story.alerts.values()
        ],
    }


def _tell_end(summary: Record, say: Say) -> None:
    for name in ("accuracy", "recall"):
        values = summary.get(name, {}).items()
        shown = ", ".join(f"{k.replace('_', ' ')} {v:.3f}" for k, v in values if v is not None)
        if shown:
            say(f"{name}: {shown}")
    tell_books(summary, say, rows="rows answered", labels="labels")
