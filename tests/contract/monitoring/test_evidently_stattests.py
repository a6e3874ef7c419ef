"""The private paths of Evidently that the adapter uses, and what they compute."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from driftloop_monitoring.statistics.columns import Column
from driftloop_monitoring.statistics.evidently_adapter import distance, write_report


def test_numbers_give_wasserstein_over_the_standard_deviation() -> None:
    r = np.random.default_rng(1)
    old, new = r.normal(3, 2, 2_000), r.normal(4, 2, 1_000)
    found = distance("number", Column("a", "number", old), Column("a", "number", new))
    assert found == pytest.approx(stats.wasserstein_distance(old, new) / old.std())


def test_categories_give_jensen_shannon() -> None:
    old = np.array(["a"] * 500 + ["b"] * 500, dtype=object)
    new = np.array(["a"] * 900 + ["c"] * 100, dtype=object)
    found = distance("category", Column("a", "category", old), Column("a", "category", new))
    p, q, m = np.array([0.5, 0.5, 0]), np.array([0.9, 0, 0.1]), np.array([0.7, 0.25, 0.05])
    js = (stats.entropy(p, m) + stats.entropy(q, m)) / 2
    assert found == pytest.approx(js**0.5)


ATTACK = "</script><script>alert(1)</script>"


def test_a_report_is_written_whole_and_no_name_or_value_ends_a_script(tmp_path: Path) -> None:
    r = np.random.default_rng(2)
    for name, shift in (("old", 0.0), ("new", 1.0)):
        frame = pd.DataFrame({"in_a": r.normal(shift, 1, 300), "in_c": ["x", ATTACK, None] * 100})
        frame[f"in_{ATTACK}"] = r.random(300)
        frame["out_label"] = r.integers(0, 2, 300)
        frame["in_b"] = r.random(300) < 0.5
        frame.to_parquet(tmp_path / f"{name}.parquet")
    target = tmp_path / "reports" / "r.html"
    write_report(tmp_path / "old.parquet", tmp_path / "new.parquet", target)
    page = target.read_text()
    assert "in_a" in page
    assert ATTACK not in page
    assert "\\u003c/script>" in page
    assert list(target.parent.iterdir()) == [target]


def test_of_many_columns_a_report_shows_those_that_moved_most(tmp_path: Path) -> None:
    r = np.random.default_rng(3)
    for name, shift in (("old", 0.0), ("new", 1.0)):
        frame = pd.DataFrame({f"in_still_{n}": r.normal(size=200) for n in range(20)})
        frame["in_moved"] = r.normal(shift, 1, 200)
        frame["in_words"] = r.choice(["a", "b"], 200) if shift else ["a"] * 200
        frame.to_parquet(tmp_path / f"{name}.parquet")
    target = tmp_path / "r.html"
    write_report(tmp_path / "old.parquet", tmp_path / "new.parquet", target, most_columns=2)
    page = target.read_text()
    assert ("in_moved" in page, "in_words" in page, "in_still" in page) == (True, True, False)
