"""Evidently: distances for every window, and the HTML report of an alert.

Distances call the registered stattests directly (private paths, checked by a contract test),
because a preset computes each column three times and also draws it. Reports are written by a
separate process with low priority: `python -m driftloop_monitoring.statistics.evidently_adapter
REFERENCE CURRENT HTML`.
"""

import os
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa

from driftloop_monitoring.statistics.columns import Column, Kind, column

os.environ.setdefault("DO_NOT_TRACK", "1")

REPORT_NICE = 10
MOST_COLUMNS = 50
"""Evidently draws each one several times: a report of thousands would take hours, and no browser
would show it."""
_STATTESTS = {"number": ("wasserstein", "num"), "category": ("jensenshannon", "cat")}


def distance(kind: Kind, reference: Column, window: Column) -> float:
    """Return the Wasserstein distance divided by the reference's standard deviation for numbers, or
    the Jensen-Shannon distance (base e, 0 to 0.83) for categories. Columns must have no missing
    values."""
    import pandas as pd

    name, feature_type = _STATTESTS[kind]
    result = _stattest(name, feature_type)(
        pd.Series(reference.values), pd.Series(window.values), _column_type(feature_type), None
    )
    return float(result.drift_score)


def preload() -> None:
    """Import the dependencies of `distance` (seconds of CPU), so that the first drift is reported
    on time."""
    for name, feature_type in _STATTESTS.values():
        _stattest(name, feature_type)


def _stattest(name: str, feature_type: str) -> Any:
    from evidently.legacy.calculations.stattests.registry import get_registered_stattest

    return get_registered_stattest(name, _column_type(feature_type))


def _column_type(feature_type: str) -> Any:
    from evidently.legacy.core import ColumnType

    return ColumnType(feature_type)


def write_report(
    reference: Path, current: Path, target: Path, most_columns: int = MOST_COLUMNS
) -> None:
    """Compare two parquet files of plain columns: of many, the `most_columns` that moved most.
    `target` is written atomically."""
    import pandas as pd
    from evidently import DataDefinition, Dataset, Report
    from evidently.presets import DataDriftPreset, DataSummaryPreset

    old, new = _disarmed(pd.read_parquet(reference)), _disarmed(pd.read_parquet(current))
    shared = [c for c in old.columns if c in new.columns and old[c].notna().any()]
    shared = [c for c in shared if new[c].notna().any()]
    if len(shared) > most_columns:
        moved = {name: _distance_of(old[name], new[name]) for name in shared}
        farthest = set(sorted(shared, key=lambda name: -moved[name])[:most_columns])
        shared = [name for name in shared if name in farthest]
    numbers = [c for c in shared if pd.api.types.is_numeric_dtype(old[c]) and old[c].dtype != bool]
    categories = [c for c in shared if c not in numbers]
    definition = DataDefinition(numerical_columns=numbers, categorical_columns=categories)

    def data_set(frame: Any) -> Any:
        frame = frame[shared].astype(dict.fromkeys(categories, str) | dict.fromkeys(numbers, float))
        return Dataset.from_pandas(frame, data_definition=definition)

    snapshot = Report([DataDriftPreset(), DataSummaryPreset()]).run(data_set(new), data_set(old))
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(target.name + ".part")
    snapshot.save_html(str(part))
    _arm(part)
    part.replace(target)


def _distance_of(old: Any, new: Any) -> float:
    then, now = (column("", pa.array(values.dropna())) for values in (old, new))
    return distance(then.kind, then, now) if then.kind == now.kind else float("inf")


_LESS_THAN = "\ue000"
"""Replaces `<` in names and values while Evidently works. Evidently writes them unescaped into a
script, which `</script>` would end."""


def _disarmed(frame: Any) -> Any:
    def without(value: Any) -> Any:
        return value.replace("<", _LESS_THAN) if isinstance(value, str) else value

    for name in frame.select_dtypes(["object", "string"]).columns:
        frame[name] = frame[name].map(without)
    return frame.rename(columns=without)


def _arm(page: Path) -> None:
    """Replace the placeholder by the escape for `<` in scripts."""
    text = page.read_text(encoding="utf-8")
    for standing in (_LESS_THAN, "\\ue000"):
        text = text.replace(standing, "\\u003c")
    page.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    os.nice(REPORT_NICE)
    reference_file, current_file, page_file = map(Path, sys.argv[1:4])
    write_report(reference_file, current_file, page_file)
