"""What is wanted of verdicts, and what the runs that were kept show."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from cell_runs import Case
from ladder import Outcome
from scipy.special import betaincinv

MOST_WRONG, MOST_ROWS, LEAST_FEWER, LEAST_CAUGHT = 0.01, 1.5, 6.0, 0.95


def targets(cases: Sequence[Case], folder: Path) -> str:
    """As a table in markdown."""
    found = {case: list(case.found(folder).values()) for case in cases}
    known = {case: outcomes for case, outcomes in found.items() if outcomes}
    lines = [f"| {' | '.join(line)} |" for line in (*_errors(known), *_rows(known))]
    return "\n".join(["| | wanted | found | |", "|---|---|---|---|", *lines])


def _errors(known: dict[Case, list[Outcome]]) -> Iterator[tuple[str, str, str, str]]:
    """Of all kinds of traffic, the one with the most."""
    for what, equal, actions in (
        ("an equal candidate is rolled back", True, ("roll_back",)),
        ("one that is worse by the margin is promoted", False, ("promote", "proven")),
    ):
        shares = {}
        for case, outcomes in known.items():
            others = ("rule before" in case.traffic, "better" in case.candidate)
            if any(others) or "8 points" in case.candidate or (case.candidate == "equal") != equal:
                continue
            wrong = sum(o.action in actions for o in outcomes)
            shares[case] = wrong / len(outcomes), wrong
        if shares:
            most, least = max(shares, key=lambda c: shares[c]), min(len(known[c]) for c in shares)
            share, wrong = shares[most]
            # What chance alone gives in 5 % of the cases is not called a miss.
            least_share = betaincinv(wrong, len(known[most]) - wrong + 1, 0.05) if wrong else 0.0
            said = "reached" if share <= MOST_WRONG else "not decided"
            said = "**missed**" if least_share > MOST_WRONG else said
            value = f"{share:.1%} at most ({most.traffic}); {len(shares)} kinds of traffic"
            yield what, "≤ 1% in each", f"{value}, at least {least:,} runs each", said


def _rows(known: dict[Case, list[Outcome]]) -> Iterator[tuple[str, str, str, str]]:
    rows = {
        case.traffic: float(np.median([o.rows for o in outcomes]))
        for case, outcomes in known.items()
        if case.candidate == "equal"
    }
    now, before = rows.get("independent rows"), rows.get("independent rows, the rule before")
    if now and before:
        what, ratio = "rows until an equal candidate is promoted, × the rule before", now / before
        yield what, f"≤ {MOST_ROWS:g}", f"{ratio:.2f}", _said(ratio <= MOST_ROWS)
    for traffic, pairs in rows.items():
        if now and traffic.startswith("pairs, 4 %"):
            what, ratio = f"{traffic}: × fewer rows than the canary", now / pairs
            yield what, f"≥ {LEAST_FEWER:g}", f"{ratio:.1f}", _said(ratio >= LEAST_FEWER)
    for case, outcomes in known.items():
        if case.traffic == "a slice of 5 %" and case.candidate != "equal":
            caught = float(np.mean([o.action == "roll_back" for o in outcomes]))
            what = "10 points of harm in a slice of 5 % are caught, while the average improves"
            yield what, f"≥ {LEAST_CAUGHT:.0%}", f"{caught:.1%}", _said(caught >= LEAST_CAUGHT)


def _said(reached: bool) -> str:
    return "reached" if reached else "**missed**"
