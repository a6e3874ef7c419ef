"""From answers to an evaluated adapter; shared by a retrain and `driftloop reproduce`."""

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import structlog

from driftloop_contracts.errors import Rejected
from driftloop_contracts.model import ModelSpec
from driftloop_retrain.language.evaluation import Evaluation, HeldOut, evaluate
from driftloop_retrain.language.examples import Example, Pair, clean
from driftloop_retrain.language.gate import MIN_PROMPTS
from driftloop_retrain.language.holdout import Grouped, mixed, part
from driftloop_retrain.language.port import (
    EncodedPair,
    LanguageRecipe,
    Needs,
    TuneContext,
    Tuned,
    TuneData,
)
from driftloop_retrain.language.tokens import ChatTokens, Encoded
from driftloop_retrain.language.training_answers import Conversation, TrainingAnswer
from driftloop_settings import TuningSettings

log = structlog.get_logger()
Report = Callable[[float, str], None]
TRAIN_SHARE = 0.75
"""The share of the progress for training; the rest is the evaluation."""


@dataclass(frozen=True)
class Lesson:
    """The data given to a recipe, the data it is judged on, the numbers of answers left out by
    reason, and of training examples by kind."""

    needs: Needs
    data: TuneData
    held: HeldOut
    dropped: dict[str, int]
    kinds: dict[str, int]

    @property
    def trained_rows(self) -> int:
        return len(self.data.pairs if self.needs == "preferences" else self.data.answers)

    @property
    def holdout_rows(self) -> int:
        return len(self.held.pairs if self.needs == "preferences" else self.held.examples)


@dataclass(frozen=True)
class AdapterCandidate:
    """An evaluated adapter. `folder` contains its two files."""

    folder: Path
    lesson: Lesson
    tuned: Tuned
    evaluation: Evaluation


def make_lesson(
    answers: Sequence[TrainingAnswer],
    tokens: ChatTokens,
    settings: TuningSettings,
    recipe: LanguageRecipe,
) -> Lesson:
    """Prepare the data. Raises Rejected if too little is left to train on."""
    cleaned = clean(answers, settings.min_rating)
    dropped = Counter(cleaned.dropped)
    examples = _encoded_examples(cleaned.examples, tokens, settings, dropped)
    pairs = _encoded_pairs(cleaned.pairs, tokens, settings, dropped)
    known: list[Grouped] = [example for example, _ in examples]
    known += [pair for pair, _ in pairs]
    what = "corrected or well-rated answers"
    if recipe.needs == "preferences":
        what = "pairs of a better and a worse answer"
    own = len(pairs) if recipe.needs == "preferences" else len(examples)
    if own < settings.min_examples:
        raise Rejected(_too_few(own, what, settings, dropped))
    groups = part(known, settings.holdout_share, settings.validation_share, MIN_PROMPTS)
    by_example = groups.parts([Row(e.group, e.at, e, ids) for e, ids in examples])
    by_pair = groups.parts([Row(p.group, p.at, p, ids) for p, ids in pairs])
    replayed = _encoded_examples(cleaned.replay, tokens, settings, Counter())
    replay = groups.parts([Row(e.group, e.at, e, ids) for e, ids in replayed]).train
    imitated = mixed(by_example.train, replay, settings.replay_share)
    data = TuneData(
        tuple(row.ids for row in imitated),
        tuple(row.ids for row in by_example.validation),
        tuple(row.ids for row in by_pair.train),
        tuple(row.ids for row in by_pair.validation),
    )
    newest = settings.holdout_answers
    held = HeldOut(
        tuple((row.item, row.ids) for row in by_example.holdout[-newest:]),
        tuple(row.ids for row in by_pair.holdout[-newest:]),
    )
    taught = by_pair.train if recipe.needs == "preferences" else imitated
    kinds = Counter(row.item.kind for row in taught)
    lesson = Lesson(recipe.needs, data, held, dict(dropped), dict(kinds))
    parts = (data.pairs, data.validation_pairs, held.pairs)
    if recipe.needs == "answers":
        parts = (data.answers, data.validation_answers, held.examples)  # type: ignore[assignment]
    if not all(parts) or len(parts[2]) < MIN_PROMPTS:
        raise Rejected(_too_few(own, what, settings, dropped))
    return lesson


def make_adapter(
    spec: ModelSpec,
    settings: TuningSettings,
    seed: int,
    recipe: LanguageRecipe,
    base: Path,
    champion: Path | None,
    start: Path | None,
    answers: Sequence[TrainingAnswer],
    work: Path,
    report: Report,
) -> AdapterCandidate:
    """Train into `work`/version and compare with the champion, an adapter on the same base (None:
    the base itself). start: the adapter to continue training from. A training that had finished
    before the process was killed is not repeated. Raises Rejected, and the errors of a recipe."""
    lesson = make_lesson(answers, ChatTokens(base), settings, recipe)
    report(0.02, f"{lesson.trained_rows:,} to train on, {lesson.holdout_rows:,} held out")
    folder, done = work / "version", work / "tuned.json"
    if done.is_file():
        tuned = Tuned(**json.loads(done.read_text()))
    else:
        context = TuneContext(
            base, start, settings, seed, work / "checkpoints", _told(recipe, report)
        )
        tuned = _tune(recipe, lesson.data, context, folder)
        done.write_text(json.dumps(asdict(tuned)))
    log.info("language.tuned", recipe=recipe.name, steps=tuned.steps, loss=tuned.loss)
    report(TRAIN_SHARE, "comparing it with the champion on held-out prompts")
    judged = evaluate(spec, settings, recipe.needs, base, folder, champion, lesson.held)
    report(1.0, f"the gate: {judged.gate.verdict}")
    return AdapterCandidate(folder, lesson, tuned, judged)


def _tune(recipe: LanguageRecipe, data: TuneData, context: TuneContext, folder: Path) -> Tuned:
    if not context.settings.ray_address:
        return recipe.tune(data, context, folder)
    from driftloop_retrain.language.ray_train import tune_on_ray

    return tune_on_ray(recipe, data, context, folder)


@dataclass(frozen=True, slots=True)
class Row:
    """An example or a pair with its token ids, for splitting by `holdout`."""

    group: str
    at: datetime
    item: Any
    ids: Any


def _told(recipe: LanguageRecipe, report: Report) -> Callable[[float, float | None], None]:
    def tell(done: float, loss: float | None) -> None:
        known = "" if loss is None else f", validation loss {loss:.3f}"
        report(0.02 + done * (TRAIN_SHARE - 0.02), f"{recipe.name}: {done:.0%} of the steps{known}")

    return tell


def _encoded_examples(
    examples: Sequence[Example], tokens: ChatTokens, settings: TuningSettings, dropped: Counter[str]
) -> list[tuple[Example, Encoded]]:
    found = []
    for example in examples:
        ids = _encoded(tokens, example.conversation, example.answer, settings, dropped)
        if ids is not None:
            found.append((example, ids))
    return found


def _encoded_pairs(
    pairs: Sequence[Pair], tokens: ChatTokens, settings: TuningSettings, dropped: Counter[str]
) -> list[tuple[Pair, EncodedPair]]:
    found = []
    for pair in pairs:
        better = _encoded(tokens, pair.conversation, pair.chosen, settings, dropped)
        worse = _encoded(tokens, pair.conversation, pair.rejected, settings, Counter())
        if better is not None and worse is not None:
            found.append((pair, EncodedPair(better.prompt, better.answer, worse.answer)))
    return found


def _encoded(
    tokens: ChatTokens,
    conversation: Conversation,
    answer: str,
    settings: TuningSettings,
    dropped: Counter[str],
) -> Encoded | None:
    try:
        ids = tokens.encode(conversation, answer)
    except Rejected:
        dropped["the chat template does not accept it"] += 1
        return None
    if len(ids) > settings.max_tokens:
        dropped[f"longer than {settings.max_tokens:,} tokens"] += 1
        return None
    return ids


def _too_few(own: int, what: str, settings: TuningSettings, dropped: Counter[str]) -> str:
    left_out = "; ".join(f"{count:,} × {reason}" for reason, count in dropped.most_common())
    return (
        f"{own:,} {what} are too few to train on: {settings.min_examples} are needed "
        f"(tuning.min_examples), with {MIN_PROMPTS} of them on prompts that can be held out. "
        f"Left out: {left_out or 'nothing'}"
    )
