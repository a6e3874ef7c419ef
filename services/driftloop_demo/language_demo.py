"""`driftloop demo --llm`: a language model learns what its users want from their feedback."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from driftloop_contracts.errors import Unavailable
from driftloop_demo import preference
from driftloop_demo.chat_traffic import ChatTraffic
from driftloop_demo.ending import books, nothing_was_lost, play, settled, tell_books
from driftloop_demo.harmful_adapter import harmful_adapter
from driftloop_demo.language_model import smollm2
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
from driftloop_http.clients import own_async_client

MODEL = "assistant"
SCENARIOS: tuple[str, ...] = ("feedback", "bad-candidate")

SETTINGS = (
    *FREE_PORTS,
    "lake.flush_seconds=0.5", "monitoring.interval_s=1", "rollout.interval_s=1",
    # These users all rate at once, so a few hundred answers are enough.
    "llm.rating_age_s=3", "llm.reference_answers=200", "trigger.cooldown_s=600",
    "llm.min_corrections=160", "tuning.generated=8", "tuning.generated_tokens=48",
    # One canary step: about 200 answers, half of them from the canary, suffice to rule out failures
    # and malformed answers; the users' ratings are conclusive before that.
    "rollout.steps=[0.5]", "rollout.sticky_s=5",
)  # fmt: skip

ANSWERS_BEFORE_BAD_CANDIDATE = 120
PAUSE_WHILE_TRAINING_S = 40.0
"""The pause between two questions of a user during training, which gets most of the machine, as in
a quiet hour."""
DEADLINE_S = 3_600.0
SHOWN = 3


@dataclass(frozen=True, slots=True)
class SideBySide:
    """A held-out prompt with the answers of the base and of the promoted adapter, if there is
    one."""

    prompt: str
    base: str
    promoted: str | None


def run_language_demo(
    scenario: str, seed: int, *, state_dir: Path | None, sets: Sequence[str], keep: bool, say: Say
) -> Record:
    """Run a scenario and return its summary; `ok`: whether the scenario had the expected
    outcome."""
    begun = time.monotonic()
    home = (state_dir or Path(".driftloop") / f"demo-llm-{scenario}").absolute()
    make_room(home)
    given = [*SETTINGS, f"retrain.seed={seed}", *sets]
    tell_console(home, given, say)
    weights = smollm2(say=say)
    command = Commands(home, given)
    say(
        ("driftloop demo --llm", "bold"),
        ": a small language model is served, its users rate and correct its answers, and it learns "
        "what they want",
    )
    say(f"all files are in {home}")
    try:
        say("starting Kafka, Ray Serve and the watchers")
        endpoints: Record = command("up", "--detach", "--timeout-s", "600")["endpoints"]
        say("loading SmolLM2-135M-Instruct into vLLM")
        command("deploy", str(_spec(home, weights)))
        ready = time.monotonic() - begun
        say((f"{ready:6.1f} s", "dim"), f"  version 1 answers at {endpoints['inference']}/v1")
        say(f"         for details: driftloop status --watch --state-dir {home}")
        traffic = _traffic(scenario, seed, endpoints["inference"])
        story = Story(
            say, lambda: time.monotonic() - begun, lambda: traffic.answered, place="answer"
        )
        traffic.paused_s = lambda: PAUSE_WHILE_TRAINING_S if story.retraining else 0.0
        story.seconds["ready"] = ready
        adapter = home / "harmful"
        if scenario == "bad-candidate":
            harmful_adapter(adapter, weights, seed)
        counts = asyncio.run(
            _play(scenario, traffic, story, command, endpoints["control"], adapter)
        )
        champion = read_status(endpoints["control"])["models"][0]["champion"]
        say("held-out prompts, answered by the base and by the version that is serving")
        told = asyncio.run(_side_by_side(traffic, champion))
        story.seconds["total"] = time.monotonic() - begun
        summary = summarise(scenario, traffic, story, counts, champion, told)
        _tell_end(summary, told, say)
        return summary
    finally:
        if keep:
            say(f"the stack keeps running; stop it with: driftloop down --state-dir {home}")
        else:
            command("down")


def _spec(home: Path, weights: Path) -> Path:
    path = home / "MODEL.yaml"
    document = {
        "name": MODEL,
        "runtime": "vllm",
        "model": str(weights),
        "task": "generation",
        "output": "text",
        "recipe": "lora-sft",
        # Twice as fast as bfloat16 on processors that do not support it.
        "options": {"engine": {"max_model_len": 1024, "dtype": "float32"}},
    }
    path.write_text(yaml.safe_dump(document, sort_keys=False))
    return path


def _traffic(scenario: str, seed: int, inference: str) -> ChatTraffic:
    demanding = scenario == "feedback"
    satisfied = preference.meets if demanding else preference.sensible
    prompts = preference.live_prompts(seed)
    return ChatTraffic(inference, MODEL, prompts, satisfied, corrects=demanding)


async def _play(
    scenario: str,
    traffic: ChatTraffic,
    story: Story,
    command: Commands,
    control: str,
    adapter: Path,
) -> Record:
    """Let users ask until the scenario ends, then wait until every answer is in the lake."""
    await play(traffic.run, _watch(scenario, traffic, story, command, control, adapter))
    return await settled(control, traffic.answered, traffic.rated + traffic.corrections)


async def _watch(
    scenario: str,
    traffic: ChatTraffic,
    story: Story,
    command: Commands,
    control: str,
    adapter: Path,
) -> None:
    deadline = time.monotonic() + DEADLINE_S
    deployed, told = False, 0
    while time.monotonic() < deadline:
        status = await asyncio.to_thread(read_status, control)
        story.tell(status)
        if story.over:
            return
        if traffic.answered // 40 > told:
            told = traffic.answered // 40
            story.line(f"users: {_ratings(traffic)}")
        if (
            scenario == "bad-candidate"
            and not deployed
            and traffic.rated >= ANSWERS_BEFORE_BAD_CANDIDATE
        ):
            deployed = True
            story.line("now a harmful adapter is deployed")
            await asyncio.to_thread(command, "deploy", str(adapter), "--name", MODEL, "--base", "1")
        await asyncio.sleep(1.0)
    raise Unavailable(f"the scenario did not end within {DEADLINE_S:.0f} s")


def _ratings(traffic: ChatTraffic) -> str:
    shown = [
        f"version {version} {tally.accuracy:.0%} thumbs up of {tally.rows}"
        for version, tally in sorted(traffic.versions.items())
        if tally.accuracy is not None
    ]
    return ", ".join(shown) + (f"; {traffic.corrections} corrections" if traffic.corrects else "")


async def _side_by_side(traffic: ChatTraffic, champion: int) -> list[SideBySide]:
    prompts = preference.held_out_prompts()
    slots = asyncio.Semaphore(traffic.users)
    async with own_async_client(timeout=120.0) as http:

        async def answers(version: int) -> list[str]:
            async def one(prompt: str) -> str:
                async with slots:
                    return (await traffic.ask(http, f"{MODEL}@{version}", prompt, {}))[0]

            return list(await asyncio.gather(*(one(prompt) for prompt in prompts)))

        base = await answers(1)
        promoted = await answers(champion) if champion != 1 else [None] * len(prompts)
    return [SideBySide(*row) for row in zip(prompts, base, promoted, strict=True)]


def summarise(
    scenario: str,
    traffic: ChatTraffic,
    story: Story,
    counts: Record,
    champion: int,
    told: Sequence[SideBySide],
) -> Record:
    """Return the summary document; `ok`: whether the scenario's promises hold."""
    base = _share([row.base for row in told])
    promoted = _share([row.promoted for row in told if row.promoted is not None])
    clean = nothing_was_lost(counts, traffic.answered)
    if scenario == "feedback":
        good = champion > 1 and base is not None and base < 0.2 and (promoted or 0.0) >= 0.9
    else:
        good = champion == 1 and (story.rollout or {}).get("state") == "rolled_back"
    stages = ("ready", "asked", "retrain", "promotion", "total")
    return {
        "scenario": f"llm-{scenario}",
        "ok": clean and good,
        "preference": {"base": base, "promoted": promoted},
        "held_out": [
            {"prompt": row.prompt, "base": row.base, "promoted": row.promoted} for row in told
        ],
        "ratings": {
            str(version): {"answers": tally.rows, "mean": tally.accuracy}
            for version, tally in sorted(traffic.versions.items())
        },
        "corrections": traffic.corrections,
        **books(story, counts, traffic.answered, traffic.client.retries, champion, stages),
    }


def _share(answers: Sequence[str]) -> float | None:
    """Return the share of these answers that are what the users want."""
    if not answers:
        return None
    return round(sum(map(preference.meets, answers)) / len(answers), 4)


def _excerpt(answer: str) -> str:
    return " ".join(answer.split())[:160]


def _tell_end(summary: Record, told: Sequence[SideBySide], say: Say) -> None:
    for row in told[:: max(1, len(told) // SHOWN)][:SHOWN]:
        say((row.prompt, "bold"))
        say(f"  base      {_excerpt(row.base)}")
        if row.promoted is not None:
            say(f"  promoted  {_excerpt(row.promoted)}")
    shares = summary["preference"]
    shown = ", ".join(f"{k} {v:.0%}" for k, v in shares.items() if v is not None)
    say(f"held-out prompts answered as the users want it: {shown} of {len(told)}")
    tell_books(summary, say, rows="answers", labels="ratings and corrections")
