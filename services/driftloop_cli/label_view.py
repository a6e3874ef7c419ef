"""Formats the arrival of labels for people."""

from collections.abc import Sequence
from typing import Any

from driftloop_cli.table_layout import Rows
from driftloop_contracts.durations import in_short
from driftloop_contracts.errors import listed


def arrival_rows(versions: list[dict[str, Any]]) -> Rows:
    ages = [in_short(cohort["age_s"]) for cohort in versions[0]["by_age"]] if versions else []
    columns = ("version", "predictions", "labelled", "delay p50", "delay p90")
    rows = []
    for found in versions:
        shares = [
            "–" if c["coverage"] is None else f"{c['coverage']:.1%} of {c['predictions']:,}"
            for c in found["by_age"]
        ]
        delays = [in_short(found[f"delay_{p}_s"]) for p in ("p50", "p90")]
        rows.append(
            (
                f"v{found['version']}",
                f"{found['predictions']:,}",
                f"{found['labelled']:,}",
                *delays,
                *shares,
            )
        )
    return Rows((*columns, *(f"by {age}" for age in ages)), rows)


def unjudged(model: str, versions: list[dict[str, Any]], keys: Sequence[str] = ()) -> list[str]:
    """Return a sentence for each version with labels that cannot be judged. keys: of labels that
    are mappings."""
    if keys:
        return [
            f"v{found['version']}: {found['other_kind']:,} rows have a label that names none of "
            f"{listed(keys)}, and are not judged"
            for found in versions
            if found["other_kind"]
        ]
    return [
        f"v{found['version']}: {found['other_kind']:,} rows have a label that cannot be "
        f"compared with the output, "
        f'and are not judged: driftloop query {model} "SELECT * FROM labels WHERE value IS NULL"'
        for found in versions
        if found["other_kind"]
    ]
