"""Conversations as token ids, identical for training, scoring and generation."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from driftloop_contracts.errors import Rejected
from driftloop_retrain.language.training_answers import Conversation


@dataclass(frozen=True, slots=True)
class Encoded:
    """Token ids. `prompt` ends where the model's answer begins; `answer` ends with the end-of-text
    token. The loss only covers the answer."""

    prompt: tuple[int, ...]
    answer: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.prompt) + len(self.answer)


class ChatTokens:
    """The tokenizer of a model's folder, with its chat template. Raises Rejected if it has none."""

    def __init__(self, folder: Path) -> None:
        from transformers import AutoTokenizer

        self.tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        if self.tokenizer.eos_token_id is None:
            raise Rejected(
                "the model's tokenizer has no end-of-text token, so an answer cannot end"
            )
        if self.tokenizer.pad_token_id is None:
            self.tokenizer.pad_token = self.tokenizer.eos_token
        self.end = int(self.tokenizer.eos_token_id)

    def prompt(self, conversation: Conversation) -> tuple[int, ...]:
        """Encode the prompt. Raises Rejected, with the template's message, if it does not accept
        the conversation."""
        if not conversation.chat:
            return tuple(self.tokenizer(conversation.prompt)["input_ids"])
        return self._ids(self._text(conversation, None))

    def encode(self, conversation: Conversation, answer: str) -> Encoded:
        """Encode the answer as the template closes it, cut after the end-of-text token."""
        prompt = self.prompt(conversation)
        closed = answer + self.tokenizer.eos_token
        if conversation.chat:
            asked, whole = self._text(conversation, None), self._text(conversation, answer)
            # Templates that render a past turn differently from the current one have no such
            # ending.
            closed = whole[len(asked) :] if whole.startswith(asked) else closed
        ids = self._ids(closed)
        if self.end not in ids:
            return Encoded(prompt, (*ids, self.end))
        return Encoded(prompt, ids[: len(ids) - ids[::-1].index(self.end)])

    def decode(self, ids: Sequence[int]) -> str:
        return str(self.tokenizer.decode(ids, skip_special_tokens=True))

    def _ids(self, text: str) -> tuple[int, ...]:
        return tuple(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def _text(self, conversation: Conversation, answer: str | None) -> str:
        messages = [{"role": m.role, "content": m.content} for m in conversation.messages]
        if answer is not None:
            messages.append({"role": "assistant", "content": answer})
        try:
            return str(
                self.tokenizer.apply_chat_template(
                    messages, tokenize=False, add_generation_prompt=answer is None
                )
            )
        except Exception as error:  # templates are code of the model and may raise anything
            raise Rejected(f"the model's chat template: {error}") from None
