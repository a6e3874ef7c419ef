"""Tests whether corrected texts become less likely under the served version: nats per token in a
window, compared with the version's first corrected texts. Pure.

One text is one observation: the mean of -ln p over its tokens (its exponential is the perplexity).
Samples are compared by the one-sided Mann-Whitney test, which makes no assumption about their
distribution.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import blake2b

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from driftloop_contracts.language import read_json
from driftloop_contracts.likelihood import LikelihoodCall

MAX_TEXTS = 32
"""The most texts of a window, chosen by a hash."""
MIN_TEXTS = 8
"""The least number of texts of a window that is tested."""
REFERENCE_TEXTS = 64
"""The number of first texts of a version that later ones are compared with."""


@dataclass(frozen=True, slots=True)
class Rise:
    """effect: the rise of the mean, in nats per token. significance: the p-value."""

    effect: float
    significance: float


def rise(reference: Sequence[float], window: Sequence[float]) -> Rise | None:
    """Test for a rise; None if there are too few texts. Arguments: nats per token of each text."""
    if len(reference) < REFERENCE_TEXTS or len(window) < MIN_TEXTS:
        return None
    from scipy.stats import mannwhitneyu  # takes a second to import

    tested = mannwhitneyu(window, reference, alternative="greater")
    return Rise(float(np.mean(window) - np.mean(reference)), float(tested.pvalue))


def corrected(
    rows: pa.Table, received_after: datetime, model: str, version: int
) -> list[LikelihoodCall]:
    """Return calls for a sample of the corrected texts. rows: `LakeReader.labelled` by corrections.
    Calls with tools are left out, because their prompt is more than the messages."""
    rows = rows.filter(
        pc.greater(rows["label_at"], pa.scalar(received_after, rows["label_at"].type))
    )
    wanted = ["prediction_id", "row", "in_messages", "in_parameters", "in_operation", "label"]
    if not set(wanted) <= set(rows.column_names):
        return []
    drawn = sorted(
        rows.select(wanted).to_pylist(), key=lambda r: _draw(f"{r['prediction_id']}/{r['row']}")
    )
    found = (call for row in drawn for call in _call(row, model, version))
    return [call for call, _ in zip(found, range(MAX_TEXTS), strict=False)]


def _draw(key: str) -> bytes:
    return blake2b(key.encode(), digest_size=8).digest()


def _call(row: dict[str, str | None], model: str, version: int) -> Iterator[LikelihoodCall]:
    messages, text = read_json(row["in_messages"]), read_json(row["label"])
    told = isinstance(messages, list) and messages and all(isinstance(m, dict) for m in messages)
    if (
        told
        and isinstance(text, str)
        and text.strip()
        and '"tools"' not in (row["in_parameters"] or "")
    ):
        chat = row["in_operation"] != "completions"
        yield LikelihoodCall(model, version, tuple(messages), text.strip(), chat)
