"""Boosted trees, alone and behind the steps of a pipeline: the graph equals the library, row by
row."""

from pathlib import Path
from typing import Any

import catboost
import lightgbm
import numpy as np
import pytest
import xgboost
from export_rows import Rows
from sklearn.compose import make_column_transformer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder

from driftloop_export import NotExportable, export
from driftloop_onnx import OnnxModel

LIGHT: dict[str, Any] = {"n_estimators": 20, "num_leaves": 15, "n_jobs": 1, "verbose": -1}
EXTREME: dict[str, Any] = {"n_estimators": 20, "max_depth": 4, "n_jobs": 1}
CAT: dict[str, Any] = {
    "iterations": 20, "depth": 4, "thread_count": 1, "verbose": 0, "allow_writing_files": False,
}  # fmt: skip
CLASSIFIERS = {
    "lightgbm": lambda: lightgbm.LGBMClassifier(**LIGHT),
    "xgboost": lambda: xgboost.XGBClassifier(**EXTREME),
    "catboost": lambda: catboost.CatBoostClassifier(**CAT),
}
REGRESSORS = {
    "lightgbm": lambda: lightgbm.LGBMRegressor(**LIGHT),
    "xgboost": lambda: xgboost.XGBRegressor(**EXTREME),
    "catboost": lambda: catboost.CatBoostRegressor(**CAT),
}
LIBRARIES = sorted(CLASSIFIERS)


def ordinal(rows: Rows) -> Any:
    encoder = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)
    return make_column_transformer((encoder, rows.texts), remainder="passthrough")


def one_hot(rows: Rows) -> Any:
    encoder = OneHotEncoder(handle_unknown="ignore")
    return make_column_transformer((encoder, rows.texts), remainder="passthrough")


def agrees(model: Any, rows: Rows, folder: Path) -> None:
    made = export(model, rows.sample, "m", labels=rows.labels, output=folder)
    assert made.rows == len(rows.sample)
    assert made.largest_difference <= 1e-5


@pytest.mark.parametrize("library", LIBRARIES)
def test_two_classes(library: str, loans: Rows, tmp_path: Path) -> None:
    agrees(CLASSIFIERS[library]().fit(*loans.numbers.train), loans.numbers, tmp_path)


@pytest.mark.parametrize("library", LIBRARIES)
def test_classes_that_are_texts(library: str, cards: Rows, tmp_path: Path) -> None:
    rows, model = cards.numbers, CLASSIFIERS[library]()
    if library == "xgboost":  # it takes whole numbers as classes only
        rows = Rows(rows.x, np.unique(rows.y, return_inverse=True)[1])
    agrees(model.fit(*rows.train), rows, tmp_path)


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_value_with_missing_numbers(library: str, prices: Rows, tmp_path: Path) -> None:
    rows = prices.numbers.with_holes()
    agrees(REGRESSORS[library]().fit(*rows.train), rows, tmp_path)


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("steps", [ordinal, one_hot])
def test_texts_and_missing_values_behind_steps(
    library: str, steps: Any, loans: Rows, tmp_path: Path
) -> None:
    rows = loans.with_holes()
    agrees(make_pipeline(steps(rows), CLASSIFIERS[library]()).fit(*rows.train), rows, tmp_path)


def test_categories_of_pandas_are_raw_texts_to_the_graph(loans: Rows, tmp_path: Path) -> None:
    rows = loans.as_categories().with_holes()
    model = lightgbm.LGBMClassifier(**{**LIGHT, "min_child_samples": 5})
    agrees(model.fit(*rows.train), rows, tmp_path)
    inputs = {t.name: t.datatype for t in OnnxModel(tmp_path).signature.inputs}
    assert inputs["salary_range"] == "BYTES"


def test_categories_of_pandas_in_xgboost(loans: Rows, tmp_path: Path) -> None:
    rows = loans.as_categories()
    model = xgboost.XGBClassifier(**EXTREME, enable_categorical=True, max_cat_to_onehot=1)
    agrees(model.fit(*rows.train), rows, tmp_path)


def test_bare_boosters(loans: Rows, tmp_path: Path) -> None:
    rows = loans.numbers
    x, y = rows.train
    quiet = {"verbose": -1, "num_threads": 1}
    light = lightgbm.train({"objective": "binary", **quiet}, lightgbm.Dataset(x, y), 10)
    agrees(light, rows, tmp_path / "light")
    extreme = xgboost.train({"objective": "binary:logistic"}, xgboost.DMatrix(x, y), 10)
    agrees(extreme, rows, tmp_path / "extreme")


def test_a_link_of_the_objective(prices: Rows, tmp_path: Path) -> None:
    rows = Rows(prices.numbers.x, prices.y / 10_000.0)
    agrees(lightgbm.LGBMRegressor(**LIGHT, objective="poisson").fit(*rows.train), rows, tmp_path)
    model = xgboost.XGBRegressor(**EXTREME, objective="count:poisson")
    agrees(model.fit(*rows.train), rows, tmp_path)


@pytest.mark.parametrize("library", ["lightgbm", "xgboost"])
def test_rows_at_the_thresholds_themselves_go_the_same_way(library: str, tmp_path: Path) -> None:
    """Values that float32 cannot hold, each a neighbour of a split."""
    dice = np.random.default_rng(1)
    x = dice.random((400, 3))
    y = (x.sum(axis=1) + 0.1 * dice.normal(size=400) > 1.5).astype(int)
    model = CLASSIFIERS[library]().fit(x, y)
    if library == "lightgbm":
        dump = model.booster_.dump_model()["tree_info"]
        cuts = np.unique([t["tree_structure"]["threshold"] for t in dump])
    else:
        table = model.get_booster().trees_to_dataframe()
        cuts = np.unique(table["Split"].dropna().to_numpy())
    near = np.concatenate([cuts, np.nextafter(cuts, 9), np.nextafter(cuts, -9)])
    rows = {f"f{i}": near for i in range(3)}
    assert export(model, rows, "m", output=tmp_path).rows == len(near)


def test_text_columns_that_catboost_encodes_itself_are_refused(loans: Rows, tmp_path: Path) -> None:
    model = catboost.CatBoostClassifier(**CAT, cat_features=loans.texts).fit(*loans.train)
    with pytest.raises(NotExportable, match=r"'salary_range'.*OrdinalEncoder"):
        export(model, loans.sample, "m", output=tmp_path)


def test_an_objective_of_ones_own_is_refused(loans: Rows, tmp_path: Path) -> None:
    rows = loans.numbers
    model = lightgbm.LGBMRegressor(**LIGHT, objective=lambda y, p: (p - y, np.ones_like(y)))
    with pytest.raises(NotExportable, match="objective"):
        export(model.fit(*rows.train), rows.sample, "m", output=tmp_path)
