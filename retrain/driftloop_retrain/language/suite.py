"""The regression suite of a fine-tuned model: `options.regression` of its spec, or general prompts.

A suite is a file with one JSON object per line: `messages` (or `prompt`, one user message), and
either `expected` (the whole answer, ignoring case and white space) or `must_contain` (a text or a
list of texts, ignoring case).
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from driftloop_contracts.errors import Rejected
from driftloop_retrain.language.examples import normalised
from driftloop_retrain.language.training_answers import Conversation, Message, parse_conversation

GENERAL = (
    "What is the capital of France?",
    "How many days are there in a week?",
    "Name three primary colours.",
    "What do bees make?",
    "Write one sentence about the sea.",
    "What is the opposite of hot?",
    "Explain in one sentence why the sky is blue.",
    "Translate 'good morning' into Spanish.",
    "What is two plus three?",
    "Give one reason to exercise.",
)
"""If a model has no suite, the base's own answers to these must not become much less likely."""


@dataclass(frozen=True, slots=True)
class Task:
    conversation: Conversation
    expected: str | None
    must_contain: tuple[str, ...]

    def met(self, answer: str) -> bool:
        if self.expected is not None and normalised(answer) != normalised(self.expected):
            return False
        return all(normalised(text) in normalised(answer) for text in self.must_contain)


def general_prompts() -> list[Conversation]:
    return [Conversation((Message("user", text),)) for text in GENERAL]


def read_suite(path: Path) -> list[Task]:
    """Parse the file. Raises Rejected, naming the line, if it is invalid."""
    try:
        lines = path.expanduser().read_text().splitlines()
    except OSError as error:
        raise Rejected(f"options.regression {str(path)!r}: {error.strerror or error}") from None
    tasks = [_task(line, number) for number, line in enumerate(lines, 1) if line.strip()]
    if not tasks:
        raise Rejected(f"options.regression {str(path)!r} has no task")
    return tasks


def _task(line: str, number: int) -> Task:
    where = f"options.regression, line {number}: "
    try:
        document: Any = json.loads(line)
    except ValueError as error:
        raise Rejected(f"{where}{error}") from None
    if not isinstance(document, Mapping):
        raise Rejected(f"{where}must be an object")
    messages = document.get("messages") or [{"role": "user", "content": document.get("prompt")}]
    conversation = parse_conversation(json.dumps(messages))
    if conversation is None:
        raise Rejected(f"{where}needs `messages` with texts, or a `prompt`")
    contained = document.get("must_contain", ())
    texts: Sequence[Any] = [contained] if isinstance(contained, str) else contained
    expected = document.get("expected")
    if not all(isinstance(text, str) for text in texts) or not isinstance(expected, str | None):
        raise Rejected(f"{where}`expected` is a text, `must_contain` a text or a list of texts")
    if expected is None and not texts:
        raise Rejected(f"{where}needs `expected` or `must_contain`")
    return Task(conversation, expected, tuple(texts))
