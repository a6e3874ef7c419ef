"""Can two samples of prompts be distinguished? A classifier tries to (Rabanser, Günnemann, Lipton,
"Failing loudly", 2019).

Half of each sample trains it; on the other half its scores are compared by Mann and Whitney's test,
which is exact whatever the classifier learnt.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

MIN_PROMPTS = 200
"""Different prompts that each sample must have."""
MIN_EFFECT = 0.2
"""2·AUC - 1 from which on samples differ."""


@dataclass(frozen=True, slots=True)
class Separation:
    """effect: how much better than chance the samples can be distinguished, 0 to 1 (2·AUC - 1);
    significance: a p-value."""

    effect: float
    significance: float


def told_apart(features: Any, old: int, classifier: Any) -> Separation:
    """features [prompts, d], dense or sparse, the first `old` rows the reference's; classifier:
    scikit-learn's, with a decision function."""
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
    """Each once, at most `most` of them, evenly spread: one that is asked a hundred times is one
    observation."""
    found = [text for text in dict.fromkeys(" ".join(t.lower().split()) for t in texts) if text]
    return found[:: max(1, -(-len(found) // most))]
