"""scikit-learn: each row of the sample is answered as the pipeline answers it, or it is refused."""

from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import pandas as pd
import pytest
from awkward_names import AWKWARD_NAMES
from export_rows import Rows
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.compose import make_column_transformer
from sklearn.ensemble import (
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.feature_extraction.text import HashingVectorizer, TfidfVectorizer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    OneHotEncoder,
    OrdinalEncoder,
    StandardScaler,
)
from sklearn.svm import LinearSVC

from driftloop_export import Differs, NotExportable, export
from driftloop_onnx import OnnxModel

ORDINAL = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)
ONE_HOT = OneHotEncoder(handle_unknown="ignore")


def columns(rows: Rows, texts: Any = ONE_HOT, numbers: Any = "passthrough") -> Any:
    return make_column_transformer((texts, rows.texts), remainder=numbers)


def agrees(model: Any, rows: Rows, folder: Path) -> None:
    made = export(model, rows.sample, "m", labels=rows.labels, output=folder)
    assert made.rows == len(rows.sample)
    assert made.largest_difference <= 1e-5


def test_two_classes_of_a_linear_model(loans: Rows, tmp_path: Path) -> None:
    model = make_pipeline(columns(loans, numbers=StandardScaler()), LogisticRegression())
    agrees(model.fit(*loans.train), loans, tmp_path)


def test_columns_may_have_any_name(tmp_path: Path) -> None:
    """Texts, numbers and what remains; skl2onnx alone takes few names."""
    dice, texts, scaled = np.random.default_rng(0), AWKWARD_NAMES[::9], AWKWARD_NAMES[1::3]
    frame = pd.DataFrame({name: dice.normal(size=60) for name in AWKWARD_NAMES})
    rows = Rows(
        frame.assign(**{name: [f"{name}{i % 2}" for i in range(60)] for name in texts}),
        frame["label"] > 0,
    )
    steps = make_column_transformer(
        (OrdinalEncoder(), list(texts)),
        (StandardScaler(), [name for name in scaled if name not in texts]),
        remainder="passthrough",
    )
    for last in (LogisticRegression(), lightgbm.LGBMClassifier(n_estimators=3, verbose=-1)):
        model = make_pipeline(steps, last).fit(rows.x, rows.y)
        export(model, rows.x, "m", labels=rows.y, output=tmp_path)
        signature = OnnxModel(tmp_path).signature
        assert tuple(tensor.name for tensor in signature.inputs) == AWKWARD_NAMES
        assert [tensor.name for tensor in signature.outputs] == ["label__", "probabilities_"]


def test_three_classes_of_a_forest(cards: Rows, tmp_path: Path) -> None:
    model = make_pipeline(columns(cards), RandomForestClassifier(15, random_state=0))
    agrees(model.fit(*cards.train), cards, tmp_path)
    signature = OnnxModel(tmp_path).signature
    assert [(t.name, t.datatype, t.shape) for t in signature.outputs] == [
        ("label", "BYTES", (-1,)),
        ("probabilities", "FP32", (-1, 3)),
    ]
    assert [t.name for t in signature.inputs] == list(cards.x)


def test_a_value_of_a_forest_over_numbers(prices: Rows, tmp_path: Path) -> None:
    rows = prices.numbers
    agrees(RandomForestRegressor(15, random_state=0).fit(*rows.train), rows, tmp_path)


@pytest.mark.parametrize("texts", [ORDINAL, ONE_HOT])
def test_missing_values_of_raw_columns(texts: Any, loans: Rows, tmp_path: Path) -> None:
    rows = loans.with_holes()
    model = make_pipeline(columns(rows, texts), HistGradientBoostingClassifier(max_iter=15))
    if texts is ONE_HOT:
        texts.set_params(sparse_output=False)
    agrees(model.fit(*rows.train), rows, tmp_path)


def test_missing_values_that_are_imputed(prices: Rows, tmp_path: Path) -> None:
    rows = prices.with_holes()
    texts = make_pipeline(SimpleImputer(strategy="most_frequent"), OneHotEncoder())
    numbers = make_pipeline(SimpleImputer(), StandardScaler())
    agrees(make_pipeline(columns(rows, texts, numbers), Ridge()).fit(*rows.train), rows, tmp_path)


def test_trees_over_missing_numbers(prices: Rows, tmp_path: Path) -> None:
    rows = prices.numbers.with_holes()
    agrees(HistGradientBoostingRegressor(max_iter=15).fit(*rows.train), rows, tmp_path)


def test_a_classifier_without_probabilities(loans: Rows, tmp_path: Path) -> None:
    rows = loans.numbers
    agrees(make_pipeline(StandardScaler(), LinearSVC()).fit(*rows.train), rows, tmp_path)
    assert [t.name for t in OnnxModel(tmp_path).signature.outputs] == ["label"]


def test_a_model_trained_on_arrays(loans: Rows, tmp_path: Path) -> None:
    x, y = loans.numbers.train
    model = LogisticRegression(max_iter=500).fit(x.to_numpy(), y)
    assert export(model, loans.numbers.sample, "m", output=tmp_path).task == "classification"


def test_what_a_search_found(loans: Rows, tmp_path: Path) -> None:
    rows = loans.numbers
    model = GridSearchCV(RandomForestClassifier(5, random_state=0), {"max_depth": [3, 5]}, cv=2)
    agrees(model.fit(*rows.train), rows, tmp_path)


def test_a_column_of_prose(tmp_path: Path) -> None:
    texts = ["the rain falls", "dry sun today", "rain and wind", "the sun shines"] * 30
    frame = pd.DataFrame({"text": texts, "day": np.arange(120.0)})
    steps = make_column_transformer((TfidfVectorizer(), "text"), remainder="passthrough")
    model = make_pipeline(steps, LogisticRegression()).fit(frame, [1, 0, 1, 0] * 30)
    assert export(model, frame, "m", output=tmp_path).rows == 120


def test_a_function_names_its_step_and_the_way_out(prices: Rows, tmp_path: Path) -> None:
    rows = prices.numbers
    model = make_pipeline(FunctionTransformer(np.log1p), Ridge()).fit(*rows.train)
    with pytest.raises(NotExportable, match=r"'functiontransformer'.*log1p.*column of the sample"):
        export(model, rows.sample, "m", output=tmp_path)


class Halved(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    def fit(self, x: Any, y: Any = None) -> "Halved":
        return self

    def transform(self, x: Any) -> Any:
        return x / 2


def test_a_transformer_of_ones_own_names_its_step(prices: Rows, tmp_path: Path) -> None:
    rows = prices.numbers
    model = make_pipeline(StandardScaler(), Halved(), Ridge()).fit(*rows.train)
    with pytest.raises(NotExportable, match=r"'halved'.*update_registered_converter"):
        export(model, rows.sample, "m", output=tmp_path)


def test_a_step_that_no_converter_knows_is_named(tmp_path: Path) -> None:
    texts = pd.DataFrame({"text": ["the rain falls", "dry sun today"] * 30})
    hashed = make_column_transformer((HashingVectorizer(n_features=16), "text"))
    model = make_pipeline(hashed, LogisticRegression()).fit(texts, [1, 0] * 30)
    with pytest.raises(NotExportable, match="HashingVectorizer"):
        export(model, texts, "m", output=tmp_path)


def test_native_categories_of_hist_gradient_boosting_are_refused(
    loans: Rows, tmp_path: Path
) -> None:
    rows = loans.as_categories()
    model = HistGradientBoostingClassifier(max_iter=5, categorical_features="from_dtype")
    with pytest.raises(NotExportable, match=r"categorical_features.*OrdinalEncoder"):
        export(model.fit(*rows.train), rows.sample, "m", output=tmp_path)


def test_a_model_that_is_not_fitted_is_refused(loans: Rows, tmp_path: Path) -> None:
    with pytest.raises(NotExportable, match="not fitted"):
        export(LogisticRegression(), loans.numbers.sample, "m", output=tmp_path)


class Doubting(LogisticRegression):  # type: ignore[misc]
    """Answers rows with a short loan in another way than its coefficients."""

    def predict(self, x: Any) -> Any:
        return np.where(np.asarray(x["loan_length"]) < 10, 0, super().predict(x))


def test_a_row_that_differs_fails_the_export_and_is_named(loans: Rows, tmp_path: Path) -> None:
    from skl2onnx import update_registered_converter
    from skl2onnx.common.shape_calculator import calculate_linear_classifier_output_shapes
    from skl2onnx.operator_converters.linear_classifier import (
        convert_sklearn_linear_classifier,
    )

    update_registered_converter(
        Doubting,
        "Doubting",
        calculate_linear_classifier_output_shapes,
        convert_sklearn_linear_classifier,
        options={"zipmap": [True, False], "nocl": [True, False], "raw_scores": [True, False]},
    )
    rows = loans.numbers
    model = Doubting(max_iter=500).fit(*rows.train)
    wrong = (model.predict(rows.sample) != LogisticRegression.predict(model, rows.sample)).sum()
    assert wrong
    with pytest.raises(Differs, match=rf"{wrong} of 750 rows otherwise .*Likely cause"):
        export(model, rows.sample, "m", output=tmp_path)
    assert not (tmp_path / "model.yaml").exists()
