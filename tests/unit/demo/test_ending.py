"""When a demo's books are closed, and what counts as lost."""

from typing import Any

import pytest

from driftloop_demo.ending import all_in_the_lake, nothing_was_lost


def counts(**given: int) -> dict[str, Any]:
    told = {"served": 100, "lake_rows": 100, "retries": 0, "dropped": 0, "duplicates": 0}
    return {**told, **given}


def test_an_answer_that_died_with_its_replica_is_kept_once() -> None:
    assert nothing_was_lost(counts(served=112, retries=12), answered=100)


@pytest.mark.parametrize(
    "given",
    [
        {"served": 112},
        {"served": 112, "retries": 11},
        {"lake_rows": 88, "retries": 12},
        {"served": 99, "lake_rows": 99},
    ],
)
def test_a_row_too_few_is_told(given: dict[str, int]) -> None:
    assert not all_in_the_lake(counts(**given), answered=100)


@pytest.mark.parametrize("given", [{"dropped": 1}, {"duplicates": 1}])
def test_rows_that_were_dropped_or_are_twice_are_told(given: dict[str, int]) -> None:
    assert not nothing_was_lost(counts(**given), answered=100)
