"""Applies a model's capture rules to a batch of predictions, before it is written to the spool."""

from collections.abc import Callable, Mapping, Sequence
from hashlib import blake2b
from typing import TypeVar

import numpy as np
import structlog

from driftloop_contracts.capture import CaptureRules, is_sampled
from driftloop_contracts.signature import Signature
from driftloop_serving.capture.spool_record import PredictionBatch, Tensors
from driftloop_settings import CaptureSettings

log = structlog.get_logger()

HASH_BYTES = 16

T = TypeVar("T")

Change = Callable[[np.ndarray], np.ndarray | None]


class CaptureFilter:
    """Samples and redacts batches. `share`: the fraction of predictions to capture, from 0 to 1;
    `changes`: for each tensor, the function that changes its values."""

    def __init__(self, share: float, changes: Mapping[str, Change]) -> None:
        self._share = share
        self._changes = changes

    def apply(self, batch: PredictionBatch) -> PredictionBatch:
        """Return the part of the batch to record; the arrays of the batch are not modified."""
        if self._share < 1.0:
            batch = self._sampled(batch)
        if self._changes:
            batch = batch._replace(
                inputs=self._changed(batch.inputs),
                outputs=batch.outputs and self._changed(batch.outputs),
            )
        return batch

    def _sampled(self, batch: PredictionBatch) -> PredictionBatch:
        chosen = [is_sampled(each, self._share) for each in batch.ids]
        if all(chosen):
            return batch
        rows = np.repeat(chosen, batch.counts)
        total = len(rows)

        def of_rows(tensors: Tensors) -> Tensors:
            # A tensor without a row dimension belongs to all rows.
            return {
                name: array[rows] if array is not None and array.shape[:1] == (total,) else array
                for name, array in tensors.items()
            }

        return batch._replace(
            ids=_where(batch.ids, chosen),
            counts=_where(batch.counts, chosen),
            latencies_s=_where(batch.latencies_s, chosen),
            inputs=of_rows(batch.inputs),
            outputs=batch.outputs and of_rows(batch.outputs),
            left_out=int(total - rows.sum()),
            key_hashes=batch.key_hashes and _where(batch.key_hashes, chosen),
            trace_ids=batch.trace_ids and _where(batch.trace_ids, chosen),
        )

    def _changed(self, tensors: Tensors) -> Tensors:
        changed = dict(tensors)
        for name in changed.keys() & self._changes.keys():
            array = changed[name]
            if array is not None:
                changed[name] = self._changes[name](array)
        return changed


def capture_filter(
    rules: CaptureRules, signature: Signature, settings: CaptureSettings
) -> CaptureFilter | None:
    """Return the filter of a version; None if everything is captured.

    A deployment whose rules cannot be applied is refused. If a rule becomes inapplicable later (a
    new version has a different type, or the key was removed), the column is dropped: data is not
    captured against its rule, and the model continues to serve.
    """
    texts = {t.name for t in (*signature.accepted, *signature.outputs) if t.datatype == "BYTES"}
    changes: dict[str, Change] = dict.fromkeys(rules.columns, _dropped)
    changes |= {c: _truncated(length) for c, length in rules.truncate.items() if c in texts}
    if rules.hash and settings.hash_key is None:
        log.warning("capture.no_hash_key", dropped=sorted(rules.hash))
    elif settings.hash_key is not None:
        key = blake2b(settings.hash_key.get_secret_value().encode()).digest()
        changes |= dict.fromkeys(rules.hash & texts, _hashed(key))
    share = settings.sample if rules.sample is None else rules.sample
    return CaptureFilter(share, changes) if changes or share < 1.0 else None


def _where(values: Sequence[T], chosen: Sequence[bool]) -> list[T]:
    return [value for value, kept in zip(values, chosen, strict=True) if kept]


def _dropped(array: np.ndarray) -> None:  # noqa: ARG001
    return None


def _hashed(key: bytes) -> Change:
    """Hash texts with a key. The empty text, which means a missing value, stays empty."""

    def hashed(text: str) -> str:
        return text and blake2b(text.encode(), digest_size=HASH_BYTES, key=key).hexdigest()

    return lambda array: _each(hashed, array)


def _truncated(length: int) -> Change:
    return lambda array: _each(lambda text: text[:length], array)


def _each(change: Callable[[str], str], array: np.ndarray) -> np.ndarray:
    changed = np.empty(array.shape, dtype=object)
    changed.ravel()[:] = [change(value) for value in array.ravel()]
    return changed
