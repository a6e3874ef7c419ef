"""Tests whether a classifier can distinguish two samples of prompts (Rabanser, Günnemann, Lipton,
"Failing loudly", 2019).

It is trained on half of each sample; its scores on the other half are compared by the Mann-Whitney
test, which is exact regardless of the classifier.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

MIN_PROMPTS = 200
"""The least number of different prompts in each sample."""
MIN_EFFECT = 0.2
"""The value of 2·AUC - 1 from which samples count as different."""


@dataclass(frozen=True, slots=True)
class Separation:
    """effect: how much better than chance the samples can be distinguished, 0 to 1 (2·AUC - 1).
    significance: the p-value."""

    effect: float
    significance: float


def told_apart(features: Any, old: int, classifier: Any) -> Separation:
    """Run the test. features: [prompts, d], dense or sparse, with `old` rows of the reference
    first. classifier: a scikit-learn classifier with a decision function."""
    from scipy.stats import mannwhitneyu  # takes a second to import

    count = features.shape[0]
    is_new = np.arange(count) >= old
    trains = np.where(is_new, np.arange(count) - old, np.arange(count)) % 2 == 0
    classifier.fit(features[trains], is_new[trains])
    scores, is_new = classifier.decision_function(features[~trains]), is_new[~trains]
    tested = mannwhitneyu(scores[is_new], scores[~is_new], alternative="greater")
    area = float(tested.statistic) / (int(is_new.sum()) * int((~is_new).sum()))
    return Separation(max(0.0, 2.0 * area - 1.0), float(tested.pvalue))


def different(texts: Sequence[str], most: int) -> list[str]:
    """Return the different texts, at most `most` of them, evenly spread: a repeated prompt is one
    observation."""
    found = [text for text in dict.fromkeys(" ".join(t.lower().split()) for t in texts) if text]
    return found[:: max(1, -(-len(found) // most))]
