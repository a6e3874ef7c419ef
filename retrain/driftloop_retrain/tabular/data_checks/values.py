"""Rows whose values break a rule, found by pandera."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from driftloop_contracts.errors import Rejected
from driftloop_contracts.training_rules import TrainingRule


def breaches(
    features: pa.Table, rules: Mapping[str, TrainingRule]
) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    """(reason, rows as bool [n]): infinite numbers, and values that a rule excludes. Raises
    Rejected for a rule without its column, or if too many values are missing."""
    for name in features.column_names:
        if pa.types.is_floating(features[name].type):
            infinite = pc.fill_null(pc.is_inf(features[name]), False)
            if pc.any(infinite).as_py():
                yield f"{name} is infinite", infinite.to_numpy()
    if rules:
        yield from _by_rule(features, rules)


def _by_rule(
    features: pa.Table, rules: Mapping[str, TrainingRule]
) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    if unknown := sorted(set(rules) - set(features.column_names)):
        raise Rejected(f"options.inputs has a rule for {unknown[0]!r}, which is not an input")
    for name, rule in rules.items():
        missing = pc.is_null(features[name], nan_is_null=True).to_numpy()
        if rule.missing is not None and missing.mean() > rule.missing:
            raise Rejected(
                f"{name} is missing in {missing.mean():.1%} of the rows (first: row "
                f"{int(np.argmax(missing))}), and {rule.missing:.1%} are allowed"
            )
    import pandera.pandas as pandera
    from pandera.errors import SchemaErrors

    columns = {
        name: pandera.Column(checks=list(_checks(pandera, name, rule)), nullable=True)
        for name, rule in rules.items()
    }
    frame = features.select(list(rules)).to_pandas()
    try:
        pandera.DataFrameSchema(columns).validate(frame, lazy=True)
    except SchemaErrors as errors:
        for reason, cases in errors.failure_cases.groupby("check", sort=True):
            wrong = np.zeros(features.num_rows, dtype=bool)
            wrong[cases["index"].astype(int).to_numpy()] = True
            yield str(reason), wrong


def _checks(pandera: Any, name: str, rule: TrainingRule) -> Iterator[Any]:
    if rule.min is not None:
        yield pandera.Check.ge(rule.min, error=f"{name} is below {rule.min:g}")
    if rule.max is not None:
        yield pandera.Check.le(rule.max, error=f"{name} is above {rule.max:g}")
    if rule.values is not None:
        yield pandera.Check.isin(rule.values, error=f"{name} is another value than listed")
