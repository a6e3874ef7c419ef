"""The differences between model kinds in the checks on a window."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import pyarrow as pa

from driftloop_contracts.events import INPUT_PREFIX
from driftloop_contracts.kind import LANGUAGE, TABULAR, ModelKind
from driftloop_monitoring.statistics.columns import Column
from driftloop_monitoring.statistics.quality import Issue, issues
from driftloop_monitoring.statistics.separation import Separation
from driftloop_monitoring.text.answer_checks import useless_answers
from driftloop_monitoring.text.descriptors import described, last_prompt
from driftloop_monitoring.text.topics import separation


class Sides(NamedTuple):
    """The columns of a table that `KindChecks.seen` returned."""

    inputs: Mapping[str, Column]
    outputs: Mapping[str, Column]


@dataclass(frozen=True, slots=True)
class KindChecks:
    """The checks of one model kind.

    seen: converts rows to the columns that are checked. broken: (reference, window, family-wise
    significance) → issues of columns with broken data. topics: (reference, window) → how well the
    window's texts can be distinguished from the reference's; None: not checked.
    """

    seen: Callable[[pa.Table], pa.Table]
    broken: Callable[[Sides, Sides, float], Sequence[Issue]]
    topics: Callable[[pa.Table, pa.Table], Separation | None]


def _broken_inputs(reference: Sides, window: Sides, significance: float) -> list[Issue]:
    return issues(reference.inputs, window.inputs, significance)


def _broken_answers(reference: Sides, window: Sides, significance: float) -> list[Issue]:
    """Check the answers only: prompts are written by people and never count as broken."""
    return list(useless_answers(reference.outputs, window.outputs, significance))


def _prompt_topics(reference: pa.Table, window: pa.Table) -> Separation | None:
    column = f"{INPUT_PREFIX}messages"
    if column not in reference.column_names or column not in window.column_names:
        return None
    old, new = ([last_prompt(m) for m in t[column].to_pylist()] for t in (reference, window))
    return separation(old, new)


CHECKS: Mapping[ModelKind, KindChecks] = {
    TABULAR: KindChecks(lambda rows: rows, _broken_inputs, lambda _reference, _window: None),
    LANGUAGE: KindChecks(described, _broken_answers, _prompt_topics),
}
