"""Checks whether data are broken: missing values, new categories, values out of range, constants,
types.

Each check compares a share of the window's rows with the same share of the reference. It needs an
effect (a rise of the share) and significance (a binomial tail, divided by the number of checks).
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from driftloop_contracts.judgement import Severity
from driftloop_monitoring.statistics.columns import Column, in_both

WARN_RISE = 0.02
BROKEN_RISE = 0.25
"""Rises of the share of bad rows for a warning, and for declaring the data broken."""
RANGE_SLACK = 0.5
"""How far a value may be outside the reference's range, in units of that range."""
CONSTANT_SHARE = 0.9
"""A column is allowed to become constant if its most common value has a larger share than this in
the reference."""
CHECKS = ("missing", "new_category", "out_of_range", "not_finite")


@dataclass(frozen=True, slots=True)
class Issue:
    """effect: the rise of the share of bad rows, 0 to 1. significance: the p-value."""

    check: str
    column: str
    severity: Severity
    effect: float
    significance: float
    detail: str


def issues(
    reference: Mapping[str, Column], window: Mapping[str, Column], significance: float
) -> list[Issue]:
    """Return the issues of the window's data. significance: the family-wise error rate."""
    pairs = in_both(reference, window)
    found = [
        Issue("absent", name, Severity.CRITICAL, 1.0, 0.0, f"column {name} is missing")
        for name in reference
        if name not in window
    ]
    alpha = significance / max(1, len(pairs) * len(CHECKS))
    for old, new in pairs:
        found.extend(_column_issues(old, new, alpha))
    return found


def _column_issues(old: Column, new: Column, alpha: float) -> list[Issue]:
    if old.kind != new.kind:
        detail = f"column {new.name} was a {old.kind} and is a {new.kind}"
        return [Issue("type", new.name, Severity.CRITICAL, 1.0, 0.0, detail)]
    missing = _judge(
        "missing", new, int(new.missing.sum()), new.rows, int(old.missing.sum()), old.rows, alpha
    )
    found = [missing] if missing else []
    if old.missing.all() or new.missing.all():
        return found
    checks = [_new_categories] if old.kind == "category" else [_out_of_range, _not_finite]
    for check in checks:
        issue = check(old, new, alpha)
        if issue:
            found.append(issue)
    constant = _constant(old, new)
    if constant:
        found.append(constant)
    return found


def _new_categories(old: Column, new: Column, alpha: float) -> Issue | None:
    fresh = sum(count for name, count in new.tally.items() if name not in old.tally)
    # Good-Turing: the share of values seen once estimates the probability of an unseen value.
    singles = sum(count == 1 for count in old.tally.values())
    return _judge("new_category", new, fresh, len(new.finite), singles, len(old.finite), alpha)


def _out_of_range(old: Column, new: Column, alpha: float) -> Issue | None:
    known, values = old.finite, new.finite
    if not known.size:
        return None
    low, high = float(known[0]), float(known[-1])
    slack = RANGE_SLACK * (high - low)
    outside = int(((values < low - slack) | (values > high + slack)).sum())
    return _judge("out_of_range", new, outside, _present(new), 0, len(known), alpha)


def _not_finite(old: Column, new: Column, alpha: float) -> Issue | None:
    bad, known_bad = (_present(column) - len(column.finite) for column in (new, old))
    return _judge("not_finite", new, bad, _present(new), known_bad, _present(old), alpha)


def _present(column: Column) -> int:
    return column.rows - int(np.count_nonzero(column.missing))


def _constant(old: Column, new: Column) -> Issue | None:
    present = new.present
    if len(present) < 2 or (present != present[0]).any():
        return None
    _, counts = np.unique(old.present.astype(str), return_counts=True)
    share = float(counts.max() / counts.sum())
    if share > CONSTANT_SHARE:
        return None
    detail = f"column {new.name} is {present[0]!s} in every row"
    chance = share ** len(present)
    return Issue("constant", new.name, Severity.CRITICAL, 1.0 - share, chance, detail)


@dataclass(frozen=True, slots=True)
class Rise:
    """The rise of a share of bad rows. effect: its size, 0 to 1. significance: the p-value."""

    severity: Severity
    effect: float
    significance: float


def risen(bad: int, rows: int, old_bad: int, old_rows: int, alpha: float) -> Rise | None:
    """Test whether bad rows are more frequent than in the reference, by at least WARN_RISE and
    significantly; None if not."""
    rise = bad / rows - old_bad / old_rows if rows else 0.0
    if not bad or rise < WARN_RISE:
        return None
    from scipy.stats import fisher_exact  # takes half a second to import

    p = float(fisher_exact([[bad, rows - bad], [old_bad, old_rows - old_bad]], "greater").pvalue)
    if p >= alpha:
        return None
    return Rise(Severity.CRITICAL if rise >= BROKEN_RISE else Severity.WARNING, rise, p)


def _judge(
    check: str, column: Column, bad: int, rows: int, old_bad: int, old_rows: int, alpha: float
) -> Issue | None:
    rise = risen(bad, rows, old_bad, old_rows, alpha)
    if rise is None:
        return None
    what = {
        "missing": "are missing",
        "new_category": "are categories never seen before",
        "out_of_range": "lie outside the known range",
        "not_finite": "are not finite",
    }
    detail = (
        f"{bad / rows:.1%} of {column.name} {what[check]}, {old_bad / old_rows:.1%} in the "
        f"reference"
    )
    return Issue(check, column.name, rise.severity, rise.effect, rise.significance, detail)
