"""Selects the answers that are fit for training, and reports why others are not. Pure.

The wanted text of an answer is its correction, or else its own text if it was rated well. An
unrated answer may be replayed against forgetting if the rated answers of its version are good on
average. A pair is an answer and a better one: its correction, the preferred answer, or an answer to
the same prompt that was rated much better.
"""

import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import blake2b
from typing import TypeVar

from driftloop_retrain.language.training_answers import Conversation, TrainingAnswer

T = TypeVar("T")
RATED_APART = 0.5
"""Two answers to the same prompt form a pair if their ratings differ by at least this much."""
UNFINISHED = {"length": "cut off", "abort": "the client left", "error": "an error"}


@dataclass(frozen=True, slots=True)
class Example:
    """An answer to imitate. kind: `correction`, `rated` or `replay`; `group`: see `group_of`."""

    prediction_id: str
    at: datetime
    conversation: Conversation
    answer: str
    kind: str
    group: str


@dataclass(frozen=True, slots=True)
class Pair:
    """Two answers to a conversation, one better than the other. kind: `correction`, `preferred` or
    `ratings`."""

    prediction_id: str
    at: datetime
    conversation: Conversation
    chosen: str
    rejected: str
    kind: str
    group: str


@dataclass(frozen=True)
class Cleaned:
    """Examples and pairs, oldest first. `replay`: answers that may be mixed in. `dropped`: the
    number of answers left out by reason (they may still be in a pair)."""

    examples: tuple[Example, ...]
    pairs: tuple[Pair, ...]
    replay: tuple[Example, ...]
    dropped: Mapping[str, int] = field(default_factory=dict)


def clean(answers: Sequence[TrainingAnswer], min_rating: float) -> Cleaned:
    """Select examples and pairs. Of answers with the same text to the same prompt, the newest is
    kept."""
    dropped: Counter[str] = Counter()
    whole: list[TrainingAnswer] = []
    for answer in answers:
        reason = _unfit(answer)
        if reason is None:
            whole.append(answer)
        else:
            dropped[reason] += 1
    good_versions = _good_versions(whole, min_rating)
    examples: list[Example] = []
    replay: list[Example] = []
    for answer in whole:
        wanted = _wanted(answer, min_rating, good_versions)
        if isinstance(wanted, str):
            dropped[wanted] += 1
        else:
            (replay if wanted.kind == "replay" else examples).append(wanted)
    pairs = _pairs(whole, dropped)
    kept = _newest_of_each(examples, lambda e: (*prompt_key(e.conversation), normalised(e.answer)))
    dropped["a repetition"] += len(examples) - len(kept)
    known = {prompt_key(e.conversation) for e in kept}
    replay = [e for e in replay if prompt_key(e.conversation) not in known]
    return Cleaned(
        tuple(kept),
        tuple(pairs),
        tuple(_newest_of_each(replay, lambda e: prompt_key(e.conversation))),
        {reason: count for reason, count in sorted(dropped.items()) if count},
    )


def normalised(text: str) -> str:
    """Remove differences of case, width and white space."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def prompt_key(conversation: Conversation) -> tuple[str, ...]:
    """Return a key that is equal for equal prompts."""
    return tuple(part for m in conversation.messages for part in (m.role, normalised(m.content)))


def group_of(conversation: Conversation) -> str:
    """Return a key of prompts that must not be split between training and evaluation: all turns of
    conversations that start with the same words of the user."""
    first = next((m for m in conversation.messages if m.role == "user"), None)
    text = first.content if first is not None else conversation.prompt
    return blake2b(normalised(text).encode(), digest_size=12).hexdigest()


def _unfit(answer: TrainingAnswer) -> str | None:
    """Return why nothing can be learnt from the answer; None if it is usable."""
    if answer.error is not None:
        return UNFINISHED["error"]
    if answer.conversation is None:
        return "not a conversation of texts"
    if not answer.conversation.prompt.strip():
        return "an empty prompt"
    return None


def _wanted(answer: TrainingAnswer, min_rating: float, good_versions: set[int]) -> Example | str:
    """Return the example, or the reason why there is none."""
    assert answer.conversation is not None
    key = answer.prediction_id, answer.at, answer.conversation
    group = group_of(answer.conversation)
    if answer.correction is not None:
        if not answer.correction.strip():
            return "an empty correction"
        return Example(*key, answer.correction.strip(), "correction", group)
    if answer.rating is not None and answer.rating < min_rating:
        return "rated too low and not corrected"
    if answer.finish_reason in UNFINISHED:
        return UNFINISHED[answer.finish_reason]
    if not answer.text.strip():
        return "an empty answer"
    if answer.rating is not None:
        return Example(*key, answer.text.strip(), "rated", group)
    if answer.version not in good_versions:
        return "not rated"
    return Example(*key, answer.text.strip(), "replay", group)


def _good_versions(answers: Iterable[TrainingAnswer], min_rating: float) -> set[int]:
    """Return the versions whose rated answers are good on average, which is assumed for their
    unrated ones, too."""
    ratings = defaultdict(list)
    for answer in answers:
        if answer.rating is not None:
            ratings[answer.version].append(answer.rating)
    return {version for version, told in ratings.items() if sum(told) / len(told) >= min_rating}


def _pairs(answers: Sequence[TrainingAnswer], dropped: Counter[str]) -> list[Pair]:
    found = []
    by_prompt: dict[tuple[str, ...], list[TrainingAnswer]] = defaultdict(list)
    for answer in answers:
        assert answer.conversation is not None
        if answer.preferred_lost:
            dropped["the preferred answer was not found"] += 1
        by_prompt[prompt_key(answer.conversation)].append(answer)
        better = {"correction": answer.correction, "preferred": answer.preferred}
        found += [
            _pair(answer, chosen, kind) for kind, chosen in better.items() if chosen is not None
        ]
    for same in by_prompt.values():
        rated = [a for a in same if a.rating is not None and a.text.strip()]
        if len(rated) < 2:
            continue
        best = max(rated, key=lambda a: (a.rating or 0.0, a.at))
        if best.finish_reason in UNFINISHED:
            continue
        found += [
            _pair(answer, best.text, "ratings")
            for answer in rated
            if (best.rating or 0.0) - (answer.rating or 0.0) >= RATED_APART
        ]
    told_apart = [
        pair
        for pair in found
        if pair.chosen and pair.rejected and normalised(pair.chosen) != normalised(pair.rejected)
    ]
    told_apart.sort(key=lambda pair: (pair.at, pair.prediction_id))
    return _newest_of_each(
        told_apart,
        lambda p: (*prompt_key(p.conversation), normalised(p.chosen), normalised(p.rejected)),
    )


def _pair(answer: TrainingAnswer, chosen: str, kind: str) -> Pair:
    assert answer.conversation is not None
    return Pair(
        answer.prediction_id,
        answer.at,
        answer.conversation,
        chosen.strip(),
        answer.text.strip(),
        kind,
        group_of(answer.conversation),
    )


def _newest_of_each(items: Sequence[T], key: Callable[[T], Hashable]) -> list[T]:
    newest = {key(item): item for item in items}
    return [item for item in items if newest[key(item)] is item]
