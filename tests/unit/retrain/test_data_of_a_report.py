"""Labels and new rows of a training, as its report shows them."""

import numpy as np
import pyarrow as pa
import pytest

from driftloop_retrain.tabular.dataset import Dataset, dataset_of
from driftloop_retrain.tabular.evaluation.new_rows import new_rows
from driftloop_retrain.tabular.label_arrival import label_arrival

START = np.datetime64("2026-11-01T00:00:00", "us")
SECOND = np.timedelta64(1_000_000, "us")


class Answers:
    """A lake with so many answers."""

    def __init__(self, count: int) -> None:
        self._count = count
        self.asked: list[object] = []

    def answered(self, *asked: object) -> int:
        self.asked = [*asked]
        return self._count


def labelled(rows: int) -> pa.Table:
    """One answer a second, whose label takes as many seconds as its number."""
    numbers = np.arange(rows)
    zone = pa.timestamp("us", tz="UTC")
    return pa.table(
        {
            "predicted_at": pa.array(START + numbers * SECOND).cast(zone),
            "label_at": pa.array(START + 2 * numbers * SECOND).cast(zone),
        }
    )


def test_labels_have_a_delay_and_a_coverage() -> None:
    lake = Answers(404)
    found = label_arrival(lake, "m", "the pin", labelled(101))  # type: ignore[arg-type]
    assert found["delay_s"] == {"50%": 50.0, "90%": 90.0, "99%": 99.0}
    assert found["coverage"]["mean"] == 0.25
    assert (found["answers"], found["labelled"]) == (404, 101)
    assert lake.asked[:2] == ["m", "the pin"]
    assert [str(each) for each in lake.asked[2:]] == [
        "2026-11-01 00:00:00+00:00", "2026-11-01 00:01:40.000001+00:00"
    ]  # fmt: skip


def data(rows: int = 1_000) -> Dataset:
    """Half of them new: `moved` is larger there, `kind` has another category, `same` is equal."""
    random = np.random.default_rng(0)
    new = np.arange(rows) >= rows // 2
    table = pa.table(
        {
            "same": random.normal(size=rows),
            "moved": random.normal(size=rows) + 3 * new,
            "gone": np.where(new, np.nan, random.normal(size=rows)),
            "kind": np.where(new & (random.random(rows) < 0.5), "b", "a").tolist(),
            "at": pa.array([[1.0, 2.0]] * rows),
        }
    )
    return dataset_of(table, np.zeros(rows), START + np.arange(rows) * SECOND, "a test")


def test_columns_that_moved_since_the_champions_data_come_first() -> None:
    rows = data()
    found = new_rows(rows, rows.at[499])
    assert (found["rows"], found["share"]) == (500, 0.5)
    distances = {each["column"]: each["distance"] for each in found["columns"]}
    assert list(distances) == ["gone", "moved", "kind", "same"]
    assert distances["gone"] == pytest.approx(1)
    assert distances["moved"] > 0.8
    assert distances["kind"] == pytest.approx(0.5, abs=0.06)
    assert distances["same"] < 0.1


@pytest.mark.parametrize(("until", "share"), [(-1, 1.0), (999, 0.0)])
def test_if_all_rows_are_new_or_none_there_is_nothing_to_compare(until: int, share: float) -> None:
    rows = data()
    assert new_rows(rows, START + until * SECOND) == {"rows": int(1_000 * share), "share": share}
    assert new_rows(rows, None) == {}
