"""Tests whether the meanings of prompts have moved, using the base model's input embeddings, which
are read from its file without loading the model or accessing the internet.

A prompt is represented by the mean of its tokens' embeddings. Frequent tokens are weighted down by
a/(a + p), with p the token's share in both samples (smooth inverse frequency: Arora, Liang, Ma, "A
simple but tough-to-beat baseline for sentence embeddings", 2017). The shares of one sample alone
would make the samples distinguishable.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from driftloop_contracts.errors import Rejected
from driftloop_monitoring.statistics.separation import (
    MIN_PROMPTS,
    Separation,
    different,
    told_apart,
)
from driftloop_vllm.weights import Tensor, tensors

MAX_PROMPTS = 2_000
MAX_CHARS, MAX_TOKENS = 2_000, 256
"""The part of a prompt that is used, from its beginning."""
MAX_SIZE = 256
"""Wider embeddings are projected to this size by a fixed random matrix. This preserves distances
(Johnson, Lindenstrauss), and makes the run time independent of the model."""
SMOOTHING = 1e-3
_EMBEDDINGS = re.compile(
    r"(^|\.)(embed_tokens|tok_embeddings|word_embeddings|wte|embed_in)\.weight$"
)
_KINDS = {"F32": np.float32, "F16": np.float16, "BF16": np.uint16}


class Embeddings:
    """The memory-mapped input embeddings of the model in `folder`, and its tokenizer. Raises
    Rejected if something is missing in the folder."""

    def __init__(self, folder: Path) -> None:
        try:
            from tokenizers import Tokenizer
        except ImportError:
            raise Rejected("the extra driftloop[finetune] is not installed") from None
        file = folder / "tokenizer.json"
        if not file.is_file():
            raise Rejected(f"{folder.name!r} has no tokenizer.json")
        self._tokenizer: Any = Tokenizer.from_file(str(file))
        self._tokenizer.enable_truncation(MAX_TOKENS)
        self._tokenizer.no_padding()
        found = _tensor(folder)
        kind = np.dtype(_KINDS[found.dtype])
        self._matrix = np.memmap(found.file, kind, "r", found.start, found.shape)
        size = found.shape[1]
        self._project: NDArray[np.float32] | None = None
        if size > MAX_SIZE:
            drawn = np.random.default_rng(0).standard_normal((size, MAX_SIZE), np.float32)
            self._project = drawn / np.float32(np.sqrt(MAX_SIZE))

    def of(self, prompts: Sequence[str]) -> NDArray[np.float32]:
        """Return an array [prompts, at most MAX_SIZE]. The order of the prompts has no influence on
        the rows."""
        encoded = self._tokenizer.encode_batch(
            [p[:MAX_CHARS] for p in prompts], add_special_tokens=False
        )
        rows = len(self._matrix)
        ids = [np.array([i for i in e.ids if i < rows], np.int64) for e in encoded]
        counts = np.bincount(np.concatenate(ids), minlength=rows)
        weights = SMOOTHING / (SMOOTHING + counts / max(1, counts.sum()))
        return np.stack([self._mean(tokens, weights) for tokens in ids])

    def _mean(self, tokens: NDArray[np.int64], weights: NDArray[Any]) -> NDArray[np.float32]:
        found = self._matrix[tokens]
        if found.dtype == np.uint16:  # bfloat16 is the upper half of a float32
            found = (found.astype(np.uint32) << 16).view(np.float32)
        mean = weights[tokens].astype(np.float32) @ found.astype(np.float32) / max(1, len(tokens))
        return np.asarray(mean if self._project is None else mean @ self._project, np.float32)


def separation(
    embeddings: Embeddings, reference: Sequence[str], window: Sequence[str]
) -> Separation | None:
    """Test for a difference; None if there are too few different prompts."""
    old, new = different(reference, MAX_PROMPTS), different(window, MAX_PROMPTS)
    if min(len(old), len(new)) < MIN_PROMPTS:
        return None
    # These take a second to import.
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(
        StandardScaler(), LogisticRegression(C=0.01, class_weight="balanced", max_iter=200)
    )
    return told_apart(embeddings.of([*old, *new]), len(old), model)


def _tensor(folder: Path) -> Tensor:
    for file in sorted(folder.glob("*.safetensors")):
        for tensor in tensors(file):
            if _EMBEDDINGS.search(tensor.name) and len(tensor.shape) == 2:
                if tensor.dtype not in _KINDS:
                    raise Rejected(f"its embeddings are {tensor.dtype}, which is not read")
                return tensor
    raise Rejected(f"{folder.name!r} has no embeddings in *.safetensors")
