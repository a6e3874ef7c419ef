"""Whether two versions gave the same answer to a row."""

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from driftloop_contracts.events import OUTPUT_PREFIX
from driftloop_contracts.model import ModelSpec
from driftloop_evaluation.labels import floats
from driftloop_evaluation.losses import is_number, one_value

RTOL = 1e-3
"""Numbers that differ by less than this share are the same answer: kernels round differently."""


def agreeing(spec: ModelSpec, champion: pa.Table, candidate: pa.Table) -> NDArray[np.bool_]:
    """Whether the answers to each of n rows are the same: the outputs that labels compare with, or
    all outputs that both have if there is none. A missing answer differs from any other."""
    several = [o.output for o in spec.judged_by if o.label is not None and o.output is not None]
    own = [f"{OUTPUT_PREFIX}{name}" for name in dict.fromkeys([spec.output, *several])]
    names = own if spec.output else candidate.column_names
    found = np.ones(champion.num_rows, bool)
    for name in names:
        known = name in champion.column_names and name in candidate.column_names
        if name.startswith(OUTPUT_PREFIX) and known:
            found &= _same(champion[name], candidate[name])
    return found


def _same(a: Any, b: Any) -> NDArray[np.bool_]:
    if _is_list(a.type) and _is_list(b.type):
        return _same_lists(a, b)
    a, b = one_value(a), one_value(b)
    if is_number(a.type) and is_number(b.type):
        close = np.isclose(floats(a), floats(b), rtol=RTOL, atol=1e-9)
        return np.asarray(close, dtype=bool)
    equal = pc.equal(a.cast(pa.string()), b.cast(pa.string())).fill_null(False)
    return np.asarray(equal.to_numpy(zero_copy_only=False), dtype=bool)


def _same_lists(a: Any, b: Any) -> NDArray[np.bool_]:
    lengths = [np.asarray(pc.fill_null(pc.list_value_length(x), -1)) for x in (a, b)]
    found = np.asarray((lengths[0] == lengths[1]) & (lengths[0] >= 0), dtype=bool)
    if not found.any():
        return found
    mask = pa.array(found)
    values = [pc.list_flatten(x.filter(mask)) for x in (a, b)]
    rows = np.repeat(np.flatnonzero(found), lengths[0][found])
    found[rows[~_same(*values)]] = False
    return found


def _is_list(type_: pa.DataType) -> bool:
    return bool(pa.types.is_list(type_) or pa.types.is_fixed_size_list(type_))
