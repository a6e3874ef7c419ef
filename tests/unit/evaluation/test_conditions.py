"""Conditions on inputs: what they mean, and that nothing else is understood."""

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from driftloop_contracts.errors import Rejected
from driftloop_contracts.model import ModelSpec
from driftloop_evaluation.conditions import literal, parse_condition, quoted
from driftloop_evaluation.slices import slice_columns, slices_of

ROWS = pa.table(
    {
        "in_tenure": pa.array([1, 2, 3, None, 5]),
        "in_country": ["DE", "FR", "o'X", "DE", None],
        "in_vip": [True, False, True, None, False],
        "in_x": [0.5, float("nan"), -1.0, 2.0, 1e9],
        "in_in a row": [[1.0], [2.0], [3.0], [4.0], [5.0]],
    }
)


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("tenure < 3", [0, 1]),
        ("tenure<=2.5", [0, 1]),
        ("tenure = 3 or country = 'DE'", [0, 2, 3]),
        ("country in ('DE', 'FR') and vip = true", [0]),
        ("country not in ('DE')", [1, 2]),
        ("country = 'o''X'", [2]),
        ("not (tenure > 1)", [0, 3]),
        ("not tenure > 1 and vip is not null", [0]),
        ("x is null", [1]),
        ("x != 2 AND x < 1e3", [0, 2]),
        ("vip is NULL or tenure is null", [3]),
        ('"in a row" >= +4', [3, 4]),
        ("tenure > 1 and tenure < 3 or x = -1", [1, 2]),
    ],
)
def test_a_condition_chooses_rows(text: str, rows: list[int]) -> None:
    assert np.flatnonzero(parse_condition(text).holds(ROWS)).tolist() == rows


@pytest.mark.parametrize(
    "text",
    [
        "", "tenure", "tenure <", "3 < tenure", "tenure < 3 and", "(tenure < 3", "tenure < 3)",
        "tenure < x", "tenure == 'a", "country in ()", "country in 'DE'", "tenure is 3", "not",
        "__import__('os').system('x')", "tenure < 3; drop", "and < 3", "a.b < 3", "tenure not < 3",
        "(" * 60 + "tenure < 3" + ")" * 60, "not " * 60 + "tenure < 3", "x < 1 or " * 400 + "x < 1",
    ],
)  # fmt: skip
def test_what_is_no_condition_is_refused_with_its_place(text: str) -> None:
    with pytest.raises(Rejected, match="condition"):
        parse_condition(text)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("age < 3", "no input 'age'; the inputs are country, in a row"),
        ("country < 3", "'country' is of texts"),
        ("tenure = 'a'", "'tenure' is of int64"),
    ],
)
def test_a_column_that_is_missing_or_of_another_kind_is_named(text: str, why: str) -> None:
    with pytest.raises(Rejected, match=why):
        parse_condition(text).holds(ROWS)


@given(st.text())
def test_any_text_is_a_condition_or_is_refused(text: str) -> None:
    try:
        condition = parse_condition(text)
    except Rejected:
        return
    assert condition.columns


@given(st.text(min_size=1), st.lists(st.text(), min_size=1), st.text())
def test_any_name_and_any_text_can_be_written(name: str, values: list[str], one: str) -> None:
    rows = pa.table({f"in_{name}": pa.array(values, pa.string())})
    holds = parse_condition(f"{quoted(name)} = {literal(one)}").holds(rows)
    assert holds.tolist() == [value == one for value in values]


COMPARE: dict[str, Callable[[float, float], bool]] = {
    "<": lambda a, b: a < b, "<=": lambda a, b: a <= b, ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b, "=": lambda a, b: a == b, "!=": lambda a, b: a != b,
}  # fmt: skip
numbers = st.floats(allow_nan=False, allow_infinity=False)


@given(
    st.lists(st.one_of(st.none(), numbers), min_size=1),
    st.lists(st.tuples(st.sampled_from([*COMPARE]), numbers, st.sampled_from(["and", "or"]))),
    numbers,
)
def test_and_binds_closer_than_or(
    values: list[float | None], more: list[tuple[str, float, str]], first: float
) -> None:
    text = f"x > {first!r}" + "".join(f" {word} x {op} {v!r}" for op, v, word in more[:20])

    def expected(x: float | None) -> bool:
        if x is None:
            return False
        groups = [[x > first]]
        for op, value, word in more[:20]:
            holds = COMPARE[op](x, value)
            groups = [*groups, [holds]] if word == "or" else [*groups[:-1], [*groups[-1], holds]]
        return any(all(group) for group in groups)

    rows = pa.table({"in_x": pa.array(values, pa.float64())})
    assert parse_condition(text).holds(rows).tolist() == [expected(x) for x in values]


def spec(*slices: Any) -> ModelSpec:
    return ModelSpec("m", "classification", "label", slices=slices)


def test_a_column_is_a_slice_for_each_of_its_values() -> None:
    found = slices_of(spec("country", "vip"), ROWS, 1)
    names = {s.name: np.flatnonzero(s.holds(ROWS)).tolist() for s in found.found}
    assert names == {
        "country=DE": [0, 3], "country=FR": [1], "country=o'X": [2], "country missing": [4],
        "vip=True": [0, 2], "vip=False": [1, 4], "vip missing": [3],
    }  # fmt: skip


@given(st.lists(st.one_of(st.none(), st.integers(-1000, 1000)), min_size=30))
def test_many_numbers_are_cut_at_quartiles_and_each_row_is_in_one_slice(
    values: list[int | None],
) -> None:
    rows = pa.table({"in_x": pa.array([*values, *range(30)], pa.float64())})
    found = slices_of(spec("x"), rows, 0).found
    assert 2 <= len(found) <= 4
    assert np.sum([s.holds(rows) for s in found], axis=0).tolist() == [1] * rows.num_rows


def test_slices_with_few_rows_are_named() -> None:
    found = slices_of(spec({"new": "tenure < 3"}, {"rich": "x > 1e8"}), ROWS, 2)
    assert [s.name for s in found.found] == ["new"]
    assert found.small == (("rich", 1),)


def test_columns_of_slices_are_known_before_any_row() -> None:
    assert slice_columns(spec("a", {"b": "c < 3 and \"d e\" = 'x'"})) == ("a", "c", "d e")
    with pytest.raises(Rejected, match="neither a column nor"):
        ModelSpec.from_dict({"name": "m", "slices": [{"new_customers": 3}]})
    loaded = ModelSpec.from_dict(json.loads(json.dumps(spec("a", {"b": "c < 3"}).to_dict())))
    assert loaded == spec("a", {"b": "c < 3"})
