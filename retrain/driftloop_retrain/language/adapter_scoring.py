"""Scores champion and candidate adapters on one base: likelihoods of given answers, and their own
answers."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from driftloop_retrain.language.adapter import load_base, with_adapter
from driftloop_retrain.language.tokens import ChatTokens, Encoded
from driftloop_settings import TuningSettings

CANDIDATE, CHAMPION = "candidate", "champion"
LOGITS = 1 << 26
"""The most numbers of a batch's logits held at once (256 MiB)."""
MAX_BATCH = 16


class Arms:
    """The base with several adapters. `adapters`: folders by name. An adapter name of None means
    the base itself."""

    def __init__(self, base: Path, adapters: dict[str, Path], settings: TuningSettings) -> None:
        self.tokens = ChatTokens(base)
        self._model: Any = load_base(base, settings)
        self._vocabulary = int(self._model.config.get_text_config().vocab_size)
        for name, folder in adapters.items():
            self._model = with_adapter(self._model, folder, name)
        self._adapted = bool(adapters)
        self._model.eval()

    def losses(self, answers: Sequence[Encoded], adapter: str | None) -> NDArray[np.float64]:
        """Return the mean negative log-likelihood per token of each answer, in nats."""
        found = np.zeros(len(answers))
        with self._using(adapter):
            for batch in self._batches(answers):
                found[batch] = self._losses([answers[i] for i in batch])
        return found

    def answers(
        self, prompts: Sequence[Sequence[int]], adapter: str | None, max_tokens: int
    ) -> list[str]:
        """Return greedy answers of at most `max_tokens` tokens, stripped of white space."""
        import torch

        found = [""] * len(prompts)
        order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
        with self._using(adapter), torch.inference_mode():
            for start in range(0, len(order), MAX_BATCH):
                batch = order[start : start + MAX_BATCH]
                ids, mask, _ = self._left_padded([prompts[i] for i in batch])
                made = self._model.generate(
                    input_ids=ids,
                    attention_mask=mask,
                    max_new_tokens=max_tokens,
                    do_sample=False,
                    eos_token_id=self.tokens.end,
                    pad_token_id=self.tokens.tokenizer.pad_token_id,
                )
                for index, row in zip(batch, made[:, ids.shape[1] :].tolist(), strict=True):
                    ended = row.index(self.tokens.end) if self.tokens.end in row else len(row)
                    found[index] = self.tokens.decode(row[:ended]).strip()
        return found

    @contextmanager
    def _using(self, adapter: str | None) -> Iterator[None]:
        if adapter is not None:
            self._model.set_adapter(adapter)
            yield
        elif self._adapted:
            with self._model.disable_adapter():
                yield
        else:
            yield

    def _batches(self, answers: Sequence[Encoded]) -> Iterator[list[int]]:
        """Yield indices of answers with similar length, as many as their logits allow."""
        batch: list[int] = []
        for index in sorted(range(len(answers)), key=lambda i: len(answers[i])):
            longest = max((len(answers[i].answer) for i in [*batch, index]), default=1)
            full = (len(batch) + 1) * longest * self._vocabulary > LOGITS
            if batch and (full or len(batch) == MAX_BATCH):
                yield batch
                batch = []
            batch.append(index)
        if batch:
            yield batch

    def _losses(self, batch: list[Encoded]) -> NDArray[np.float64]:
        import torch

        ids, mask, places = self._left_padded([(*e.prompt, *e.answer) for e in batch])
        longest = max(len(e.answer) for e in batch)
        with torch.inference_mode():
            # Answers are at the end, so logits are computed only there.
            logits = self._model(
                input_ids=ids,
                attention_mask=mask,
                position_ids=places,
                use_cache=False,
                logits_to_keep=longest + 1,
            ).logits[:, -longest - 1 : -1]
            targets = ids[:, -longest:]
            nats = torch.nn.functional.cross_entropy(
                logits.float().transpose(1, 2), targets, reduction="none"
            )
            counts = torch.tensor([len(e.answer) for e in batch], device=ids.device)
            own = torch.arange(longest, device=ids.device)[None, :] >= longest - counts[:, None]
            means = (nats * own).sum(1) / counts
        return np.asarray(means.double().cpu().numpy(), np.float64)

    def _left_padded(self, rows: Sequence[Sequence[int]]) -> tuple[Any, Any, Any]:
        import torch

        width = max(len(row) for row in rows)
        pad = int(self.tokens.tokenizer.pad_token_id)
        ids = torch.tensor([[pad] * (width - len(row)) + list(row) for row in rows])
        mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows])
        places = (mask.cumsum(1) - 1).clamp(min=0)
        device = next(self._model.parameters()).device
        return ids.to(device), mask.to(device), places.to(device)
