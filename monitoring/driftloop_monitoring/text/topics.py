"""Tests whether the words and topics of prompts have moved, by hashed words and word pairs."""

from collections.abc import Sequence

from driftloop_monitoring.statistics.separation import (
    MIN_PROMPTS,
    Separation,
    different,
    told_apart,
)

MAX_PROMPTS = 4_000
FEATURES = 2**16


def separation(reference: Sequence[str], window: Sequence[str]) -> Separation | None:
    """Test for a difference; None if there are too few different prompts."""
    old, new = different(reference, MAX_PROMPTS), different(window, MAX_PROMPTS)
    if min(len(old), len(new)) < MIN_PROMPTS:
        return None
    # These take a second to import.
    from sklearn.feature_extraction.text import HashingVectorizer
    from sklearn.linear_model import LogisticRegression

    vectors = HashingVectorizer(n_features=FEATURES, ngram_range=(1, 2), alternate_sign=False)
    model = LogisticRegression(C=10.0, class_weight="balanced", solver="liblinear")
    return told_apart(vectors.transform([*old, *new]), len(old), model)
