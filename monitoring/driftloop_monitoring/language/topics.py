"""Have the prompts' words and topics moved? A classifier tries to tell the window's prompts from the
reference's (Rabanser, Günnemann, Lipton, "Failing loudly", 2019).

Half of each sample trains it, on hashed words and word pairs; on the other half its scores are compared
by Mann and Whitney's test, which is exact whatever the classifier learnt. Each prompt counts once in its
sample: one that is asked a hundred times is one observation.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MIN_PROMPTS = 200
"""Different prompts that each sample must have."""
MAX_PROMPTS = 4_000
FEATURES = 2**16


@dataclass(frozen=True, slots=True)
class Separation:
    """effect: how much better than chance the samples can be told apart, 0 to 1 (2·AUC - 1);
    significance: a p-value."""

    effect: float
    significance: float


def separation(reference: Sequence[str], window: Sequence[str]) -> Separation | None:
    """None where there are too few different prompts to say."""
    old, new = _different(reference), _different(window)
    if min(len(old), len(new)) < MIN_PROMPTS:
        return None
    # These take a second to import.
    from scipy.stats import mannwhitneyu
    from sklearn.feature_extraction.text import HashingVectorizer
    from sklearn.linear_model import LogisticRegression

    vectors = HashingVectorizer(n_features=FEATURES, ngram_range=(1, 2), alternate_sign=False)
    (train_old, test_old), (train_new, test_new) = _halves(old), _halves(new)
    model = LogisticRegression(C=10.0, class_weight="balanced", solver="liblinear")
    model.fit(
        vectors.transform([*train_old, *train_new]), [0] * len(train_old) + [1] * len(train_new)
    )

    def scores(texts: Sequence[str]) -> NDArray[np.float64]:
        found: NDArray[np.float64] = model.decision_function(vectors.transform(texts))
        return found

    tested = mannwhitneyu(scores(test_new), scores(test_old), alternative="greater")
    area = float(tested.statistic) / (len(test_new) * len(test_old))
    return Separation(max(0.0, 2.0 * area - 1.0), float(tested.pvalue))


def _different(texts: Sequence[str]) -> list[str]:
    """Each once, at most MAX_PROMPTS of them, evenly spread."""
    found = [text for text in dict.fromkeys(" ".join(t.lower().split()) for t in texts) if text]
    return found[:: max(1, -(-len(found) // MAX_PROMPTS))]


def _halves(texts: Sequence[str]) -> tuple[Sequence[str], Sequence[str]]:
    return texts[::2], texts[1::2]
