"""Which measurements of a version are compared, for each kind of model."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from driftloop_contracts.events import OUTPUT_PREFIX
from driftloop_contracts.kind import LANGUAGE, TABULAR, ModelKind
from driftloop_evaluation.scorer import Scorer
from driftloop_rollout.output_quality import malformed


@dataclass(frozen=True, slots=True)
class KindEvidence:
    """seconds: the column with the compared time, of a whole request or of one token. malformed:
    how malformed each of n answers is, [n] from 0 to 1; NaN if unknown."""

    seconds: str
    malformed: Callable[[pa.Table, Scorer | None], NDArray[np.float64]]


def _no_form(table: pa.Table, _: Scorer | None) -> NDArray[np.float64]:
    return np.full(table.num_rows, np.nan)


EVIDENCE: Mapping[ModelKind, KindEvidence] = {
    TABULAR: KindEvidence("latency_s", _no_form),
    LANGUAGE: KindEvidence(OUTPUT_PREFIX + "token_s", malformed),
}
