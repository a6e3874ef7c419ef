"""Do the answers that people want become less likely under the served version? Nats per token of
corrected texts, those of a window against the version's first ones. Pure.

One text is one observation: the mean of -ln p over its tokens (perplexity is e to that power).
Samples are compared by Mann and Whitney's test, one-sided, which asks nothing of their
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
"""Of a window, drawn by a hash."""
MIN_TEXTS = 8
"""With fewer a window is not judged."""
REFERENCE_TEXTS = 64
"""The first texts that a version was asked for are what later ones are compared with."""


@dataclass(frozen=True, slots=True)
class Rise:
    """effect: of the mean, in nats per token; significance: a p-value."""

    effect: float
    significance: float


def rise(reference: Sequence[float], window: Sequence[float]) -> Rise | None:
    """None if there are too few texts. Nats per token, one value for each text."""
    if len(reference) < REFERENCE_TEXTS or len(window) < MIN_TEXTS:
        return None
    from scipy.stats import mannwhitneyu  # takes a second to import

    tested = mannwhitneyu(window, reference, alternative="greater")
    return Rise(float(np.mean(window) - np.mean(reference)), float(tested.pvalue))


def corrected(
    rows: pa.Table, received_after: datetime, model: str, version: int
) -> list[LikelihoodCall]:
    """A sample of the corrected texts, as questions to the version. rows: `LakeReader.labelled` by
    corrections. Left out: what was asked with tools, whose prompt is more than its messages."""
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
