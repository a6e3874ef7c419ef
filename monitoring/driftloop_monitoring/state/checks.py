"""Runs all checks on a closed window."""

from collections.abc import Iterator, Mapping
from datetime import datetime

import pyarrow as pa

from driftloop_contracts.events import INPUT_PREFIX, OUTPUT_PREFIX
from driftloop_contracts.judgement import CheckKind, Finding, Severity
from driftloop_monitoring.state.kind_checks import CHECKS, Sides
from driftloop_monitoring.state.reference import Reference
from driftloop_monitoring.statistics.columns import Column, columns_of
from driftloop_monitoring.statistics.drift import Distance, DriftRule, moved
from driftloop_monitoring.statistics.separation import MIN_EFFECT
from driftloop_monitoring.statistics.windows import stable_id


def window_findings(
    reference: Reference,
    table: pa.Table,
    *,
    model: str,
    version: int,
    window_id: str,
    at: datetime,
    rule: DriftRule,
    distance: Distance,
) -> list[Finding]:
    """Return the findings about quality of the inputs, drift of the inputs and drift of the
    outputs. Rows answered with an error have no outputs and only count for the inputs. A column
    with broken data is not checked for drift."""
    checks = CHECKS[reference.losses.spec.kind]
    seen = checks.seen(table)
    inputs, outputs = columns_of(seen, INPUT_PREFIX), columns_of(seen, OUTPUT_PREFIX)
    found = []
    known = Sides(reference.inputs, reference.outputs)
    bad = checks.broken(known, Sides(inputs, outputs), rule.significance)
    for t in bad:
        found.append(
            Finding(
                finding_id=stable_id(window_id, t.check, t.column),
                model=model,
                version=version,
                kind=CheckKind.QUALITY,
                check=t.check,
                severity=t.severity,
                columns=(t.column,),
                effect=t.effect,
                significance=t.significance,
                window_id=window_id,
                at=at,
                detail=t.detail,
            )
        )
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
                    finding_id=stable_id(window_id, kind, column),
                    model=model,
                    version=version,
                    kind=kind,
                    check="two_sample",
                    severity=Severity.WARNING,
                    columns=(column,),
                    effect=effect,
                    significance=significance,
                    window_id=window_id,
                    at=at,
                    detail=detail,
                )
            )
    told_apart = checks.topics(reference.table, table)
    if (
        told_apart
        and told_apart.effect >= MIN_EFFECT
        and told_apart.significance < rule.significance
    ):
        found.append(
            Finding(
                finding_id=stable_id(window_id, "topics"),
                model=model,
                version=version,
                kind=CheckKind.DRIFT,
                check="topics",
                severity=Severity.WARNING,
                columns=("prompt",),
                effect=told_apart.effect,
                significance=told_apart.significance,
                window_id=window_id,
                at=at,
                detail="how well words separate the prompts from the reference's, 0 to 1",
            )
        )
    return found


def _moved(
    reference: Mapping[str, Column],
    window: Mapping[str, Column],
    distance: Distance,
    rule: DriftRule,
) -> Iterator[tuple[str, float, float, str]]:
    for m in moved(reference, window, distance, rule):
        yield m.column, m.effect, m.significance, m.detail
