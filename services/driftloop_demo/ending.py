"""Ends a demo: stops the traffic, waits for the lake, and sums up the counts."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from typing import Any

from driftloop_demo.stack import Record, Say, read_status
from driftloop_demo.story import Story

SETTLE_S = 60.0
COUNTS = (
    "served", "acked", "spooled", "dropped", "lake_rows", "retries", "duplicates", "labels",
)  # fmt: skip


async def play(
    run: Callable[[asyncio.Event], Coroutine[Any, Any, None]], watch: Awaitable[None]
) -> None:
    """Run traffic until `watch` returns. `run` sends it until its event is set."""
    stop = asyncio.Event()
    sending, watching = asyncio.create_task(run(stop)), asyncio.ensure_future(watch)
    done, _ = await asyncio.wait({sending, watching}, return_when=asyncio.FIRST_COMPLETED)
    stop.set()
    try:
        for task in done:
            task.result()
        await sending
    finally:
        watching.cancel()


async def settled(control: str, answered: int, labels: int) -> Record:
    """Return the model's counts once the lake contains all answers and labels, or after SETTLE_S
    seconds."""
    deadline = time.monotonic() + SETTLE_S
    while True:
        status = await asyncio.to_thread(read_status, control)
        counts: Record = status["models"][0]["counts"]
        whole = all_in_the_lake(counts, answered) and counts["labels"] >= labels
        if whole or time.monotonic() > deadline:
            return counts
        await asyncio.sleep(0.3)


def all_in_the_lake(counts: Record, answered: int) -> bool:
    """`answered`: rows whose answer reached the client. What died with a replica and was answered
    again by another is served twice and kept once."""
    kept = counts["lake_rows"]
    return bool(counts["served"] == kept + counts["retries"] and kept >= answered)


def nothing_was_lost(counts: Record, answered: int) -> bool:
    whole = all_in_the_lake(counts, answered)
    return whole and counts["dropped"] == 0 and counts["duplicates"] == 0


def books(
    story: Story,
    counts: Record,
    answered: int,
    retries: Mapping[str, int],
    champion: int,
    stages: Sequence[str],
) -> Record:
    """Return the part of the summary common to all demos. `stages`: the events whose times it
    contains."""
    rollout = story.rollout or {}
    return {
        "counts": {name: counts[name] for name in COUNTS},
        "answered": answered,
        "client_retries": sum(retries.values()),
        "client_retry_reasons": dict(retries),
        "versions": {"first": 1, "champion": champion},
        "rollout": {
            "id": rollout.get("id"),
            "steps": story.steps,
            "state": rollout.get("state"),
            "verdict": rollout.get("verdict"),
            "answered_unseen": (rollout.get("shadow") or {}).get("answered", 0),
            "proven_unseen": (rollout.get("shadow") or {}).get("proven", []),
        },
        "seconds": {
            stage: round(story.seconds[stage], 1) if stage in story.seconds else None
            for stage in stages
        },
    }


def tell_books(summary: Record, say: Say, *, rows: str, labels: str) -> None:
    """Report the counts. `rows` and `labels`: their names in this demo."""
    counts = summary["counts"]
    say(
        f"{counts['served']:,} {rows}, {counts['lake_rows']:,} in the lake, "
        f"{counts['duplicates']} twice, "
        f"{counts['dropped']} dropped, {counts['labels']:,} {labels}"
    )
    say(
        f"champion: version {summary['versions']['champion']}; {summary['seconds']['total']} s in "
        f"all"
    )
    if counts["retries"]:
        say(
            f"{counts['retries']:,} {rows} were sent again because the first answer was lost; "
            "each is kept once"
        )
    if summary["client_retries"]:
        reasons = summary["client_retry_reasons"].items()
        why = ", ".join(f"{reason} {count}" for reason, count in reasons)
        say(f"the client repeated {summary['client_retries']} calls: {why}")
    if not summary["ok"]:
        say(("the scenario did not have the expected outcome", "red"))
