"""All checks on one closed window, as findings."""

from collections.abc import Iterator, Mapping
from datetime import datetime

import pyarrow as pa

from driftloop_contracts.events import INPUT_PREFIX, OUTPUT_PREFIX
from driftloop_contracts.judgement import CheckKind, Finding, Severity
from driftloop_monitoring.columns import Column, columns_of
from driftloop_monitoring.drift import Distance, DriftRule, moved
from driftloop_monitoring.quality import troubles
from driftloop_monitoring.reference import Reference
from driftloop_monitoring.windows import stable_id


def window_findings(
    reference: Reference, table: pa.Table, *, model: str, version: int, window_id: str,
    at: datetime, rule: DriftRule, distance: Distance,
) -> list[Finding]:  # fmt: skip
    """Quality of the inputs, drift of the inputs, drift of the outputs. Rows answered with an
    error have no outputs and count for the inputs only. A column whose data are broken is not
    judged for drift as well."""
    inputs, outputs = columns_of(table, INPUT_PREFIX), columns_of(table, OUTPUT_PREFIX)
    found = []
    bad = troubles(reference.inputs, inputs, rule.significance)
    for t in bad:
        found.append(
            Finding(
                stable_id(window_id, t.check, t.column), model, version, CheckKind.QUALITY, t.check,
                t.severity, (t.column,), t.effect, t.significance, window_id, at, t.detail,
            )
        )  # fmt: skip
    broken = {t.column for t in bad if t.severity is Severity.CRITICAL}
    sound = {name: c for name, c in reference.inputs.items() if name not in broken}
    drifts = (
        (CheckKind.DRIFT, _moved(sound, inputs, distance, rule)),
        (CheckKind.PREDICTION_DRIFT, _moved(reference.outputs, outputs, distance, rule)),
    )
    for kind, moves in drifts:
        for column, effect, significance, detail in moves:
            found.append(
                Finding(
                    stable_id(window_id, kind, column), model, version, kind, "two_sample",
                    Severity.WARNING, (column,), effect, significance, window_id, at, detail,
                )
            )  # fmt: skip
    return found


def _moved(
    reference: Mapping[str, Column],
    window: Mapping[str, Column],
    distance: Distance,
    rule: DriftRule,
) -> Iterator[tuple[str, float, float, str]]:
    for m in moved(reference, window, distance, rule):
        yield m.column, m.effect, m.significance, m.detail
