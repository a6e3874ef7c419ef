"""Answers as tests of fine-tuning make them."""

from datetime import UTC, datetime, timedelta
from typing import Any

from driftloop_retrain.language.training_answers import Conversation, Message, TrainingAnswer

START = datetime(2026, 11, 1, tzinfo=UTC)


def asked(*texts: str) -> Conversation:
    """The user's words, with an assistant's "Yes." between two of them."""
    messages: list[Message] = []
    for text in texts:
        messages += [Message("assistant", "Yes.")] if messages else []
        messages.append(Message("user", text))
    return Conversation(tuple(messages))


def answer(
    number: int, prompt: str = "", text: str = "an answer", **changed: Any
) -> TrainingAnswer:
    """The answer number `number`, given so many seconds after START."""
    given = {
        "version": 1,
        "conversation": asked(prompt or f"question {number}?"),
        "text": text,
        "finish_reason": "stop",
        **changed,
    }
    return TrainingAnswer(f"p{number}", START + timedelta(seconds=number), **given)
