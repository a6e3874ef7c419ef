"""A Hugging Face text classifier of a few kilobytes, made on the spot: random weights, a real
tokenizer."""

from typing import Any

TEXTS = [
    "the cat sat on the mat", "Dogs bark, loudly!", "é là: ça va? naïve", "", "x" * 200,
    "hello   world 123 4.5", "a word " * 40,
]  # fmt: skip
LENGTH = 64
"""Tokens after which texts are cut."""


def tiny_classifier(classes: int = 3, seed: int = 0, spread: float = 1.0) -> tuple[Any, Any]:
    """A DistilBERT, whose weights have this standard deviation, and its WordPiece tokenizer."""
    import torch
    from tokenizers import BertWordPieceTokenizer
    from transformers import (
        BertTokenizerFast,
        DistilBertConfig,
        DistilBertForSequenceClassification,
    )

    letters = sorted(set("".join(TEXTS).lower()) - {" "})
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "cat", "dog", "world", *letters]
    pieces += [f"##{letter}" for letter in letters]
    words = BertWordPieceTokenizer({piece: i for i, piece in enumerate(pieces)}, lowercase=True)
    tokenizer = BertTokenizerFast(tokenizer_object=words._tokenizer)
    config = DistilBertConfig(
        vocab_size=len(tokenizer), dim=16, n_layers=1, n_heads=2, hidden_dim=32,
        max_position_embeddings=LENGTH, initializer_range=spread,
        pad_token_id=tokenizer.pad_token_id,
        id2label={number: f"topic {number}" for number in range(classes)},
        label2id={f"topic {number}": number for number in range(classes)},
        num_labels=classes,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = DistilBertForSequenceClassification(config)
    return model.eval(), tokenizer
