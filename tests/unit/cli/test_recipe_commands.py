"""`driftloop check-recipe`: a recipe of a module in the current folder, and what is refused."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from driftloop_cli.main import app

RECIPES = """
import time
from sklearn.linear_model import LinearRegression, LogisticRegression
from driftloop_retrain.tabular.recipes import recipe

@recipe
def good(train, context):
    return LogisticRegression().fit(train.features.to_pandas(), train.labels)

@recipe
def both(train, context):
    rows = train.features.to_pandas()
    return {
        "late": LogisticRegression().fit(rows, list(train.label("late"))),
        "cost": LinearRegression().fit(rows, train.label("cost")),
    }

@recipe
def useless(train, context):
    return "a model"

@recipe
def endless(train, context):
    time.sleep(60)
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "recipes_of_mine.py").write_text(RECIPES)
    amount = [float(number % 7) for number in range(400)]
    table = pa.table({"amount": amount, "other": amount[::-1], "late": [a > 3.5 for a in amount]})
    late = table["late"].cast(pa.int64())
    pq.write_table(table.set_column(2, "late", late), tmp_path / "rows.parquet")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def asked(*words: str) -> tuple[int, Any]:
    done = CliRunner().invoke(app, ["check-recipe", *words, "--json"])
    return done.exit_code, json.loads(done.stdout)


DATA = ("--data", "rows.parquet", "--label", "late", "--task", "classification")


@pytest.mark.usefixtures("here")
def test_a_recipe_of_the_current_folder_is_checked_on_own_rows() -> None:
    assert asked("recipes_of_mine:good", *DATA) == (0, {"recipe": "good", "ok": True})


def test_a_recipe_of_several_labels_is_checked(here: Path) -> None:
    table = pq.read_table(here / "rows.parquet")
    cost = pa.array([3.0 * amount for amount in table["amount"].to_pylist()])
    pq.write_table(table.append_column("cost", cost), here / "rows.parquet")
    said = (*DATA[:4], "--label", "cost", "--task", "cost=regression")
    assert asked("recipes_of_mine:both", *said) == (0, {"recipe": "both", "ok": True})
    code, document = asked("recipes_of_mine:useless", *said)
    assert (code, "of several labels is not known" in document["error"]) == (1, True)


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("recipes_of_mine:useless", *DATA), "is not a model of"),
        (("recipes_of_mine:endless", *DATA, "--timeout-s", "1"), "not done after 1 s"),
        (("recipes_of_mine:nothing", *DATA), "cannot be imported"),
        (("recipes_of_mine:good", "--data", "rows.parquet"), "given together"),
        (("recipes_of_mine:good", "--task", "clustering"), "must be classification"),
    ],
)
def test_one_that_goes_wrong_says_why(words: tuple[str, ...], reason: str) -> None:
    code, document = asked(*words)
    assert code == 1
    assert reason in document["error"]
