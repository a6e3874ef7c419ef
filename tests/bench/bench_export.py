"""Exports of each framework on real rows: does the graph answer as the native model does?

    python tests/bench/bench_export.py [--data FOLDER] [--only LightGBM] [--rows 5000] [--served]

FOLDER holds car_loan.parquet, credit_card.parquet and car_price.parquet; without it, the shorter
files of the tests and the demo are read. Four models for each
framework: two classes, three classes, a value, and two classes with missing values. Prints a table
in Markdown; each row is compared by `export`, which raises if one differs. --served: a stack is
started, each folder is deployed there, and its answers to all rows are compared with those of the
native model.
"""

import argparse
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from driftloop_client import Client
from driftloop_contracts.errors import Rejected
from driftloop_demo.data_set import FILE
from driftloop_export import Native, export
from driftloop_export.comparison import Differs, compare

sys.path.insert(0, str(Path(__file__).parents[1]))
TRAIN_ROWS = 5_000
NOT_FEATURES = ["id", "timestamp", "part"]
CASES = {
    "two classes": ("car_loan", "repaid", 0.0),
    "three classes": ("credit_card", "card", 0.0),
    "a value": ("car_price", "price", 0.0),
    "missing values": ("car_loan", "repaid", 0.08),
}
Frame = Any
SHIPPED = {
    "car_loan": FILE,
    "credit_card": Path(__file__).parents[1] / "fixtures" / "credit_card.parquet",
    "car_price": Path(__file__).parents[1] / "fixtures" / "car_price.parquet",
}


def rows_of(folder: Path | None, case: str, rows: int) -> tuple[Frame, np.ndarray, Frame]:
    """Rows to train on, their labels, and the sample after them."""
    name, label, holes = CASES[case]
    file = SHIPPED[name] if folder is None else folder / f"{name}.parquet"
    table = pq.read_table(file).slice(0, TRAIN_ROWS + rows)
    cut = min(TRAIN_ROWS, table.num_rows // 2)
    frame: Any = table.to_pandas()
    for column in frame.select_dtypes("category"):
        frame[column] = frame[column].astype(str)
    y = frame.pop(label).to_numpy()
    frame = frame.drop(columns=NOT_FEATURES, errors="ignore")
    dice = np.random.default_rng(0)
    for column in frame if holes else []:
        if not pd.api.types.is_bool_dtype(frame[column]):
            frame[column] = frame[column].mask(dice.random(len(frame)) < holes)
    return frame[:cut], y[:cut], frame[cut:].reset_index(drop=True)


def texts_of(frame: Frame) -> list[str]:
    numeric = pd.api.types.is_numeric_dtype
    return [name for name in frame if not numeric(frame[name])]


def encoder(frame: Frame, texts: list[str]) -> Any:
    from sklearn.compose import make_column_transformer
    from sklearn.preprocessing import OrdinalEncoder

    frame[texts] = frame[texts].fillna("")
    codes = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)
    return make_column_transformer((codes, texts), remainder="passthrough")


def scikit_learn(x: Frame, y: Any, classifies: bool) -> Any:
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
    from sklearn.pipeline import make_pipeline

    kind = HistGradientBoostingClassifier if classifies else HistGradientBoostingRegressor
    return make_pipeline(encoder(x, texts_of(x)), kind(random_state=0)).fit(x, y)


def lightgbm(x: Frame, y: Any, classifies: bool) -> Any:
    import lightgbm as lgb

    kind = lgb.LGBMClassifier if classifies else lgb.LGBMRegressor
    return kind(verbose=-1, n_jobs=1).fit(x.astype(dict.fromkeys(texts_of(x), "category")), y)


def xgboost(x: Frame, y: Any, classifies: bool) -> Any:
    from sklearn.pipeline import make_pipeline
    from xgboost import XGBClassifier, XGBRegressor

    codes = np.unique(y, return_inverse=True)[1] if classifies else y
    kind = XGBClassifier if classifies else XGBRegressor
    return make_pipeline(encoder(x, texts_of(x)), kind(n_jobs=1)).fit(x, codes)


def catboost(x: Frame, y: Any, classifies: bool) -> Any:
    from catboost import CatBoostClassifier, CatBoostRegressor
    from sklearn.pipeline import make_pipeline

    kind = CatBoostClassifier if classifies else CatBoostRegressor
    model = kind(iterations=100, verbose=False, thread_count=1, allow_writing_files=False)
    return make_pipeline(encoder(x, texts_of(x)), model).fit(x, y)


def torch(x: Frame, y: Any, classifies: bool) -> Any:
    import torch as t

    class Net(t.nn.Module):
        def __init__(self, width: int, outputs: int) -> None:
            super().__init__()
            self.layers = t.nn.Sequential(
                t.nn.BatchNorm1d(width),
                t.nn.Linear(width, 32),
                t.nn.ReLU(),
                t.nn.Linear(32, outputs),
            )

        def forward(self, matrix: Any) -> Any:
            return self.layers(t.nan_to_num(matrix))

    t.manual_seed(0)
    inputs = t.tensor(x.to_numpy(np.float32))
    wanted = t.tensor(np.unique(y, return_inverse=True)[1]) if classifies else t.tensor(y).float()
    model = Net(x.shape[1], len(set(y)) if classifies else 1)
    loss = t.nn.functional.cross_entropy if classifies else t.nn.functional.l1_loss
    steps = t.optim.Adam(model.parameters(), 0.01)
    for _ in range(30):
        steps.zero_grad()
        found = model(inputs)
        loss(found if classifies else found[:, 0], wanted).backward()
        steps.step()
    return model


def keras(x: Frame, y: Any, classifies: bool) -> Any:
    import os

    os.environ.setdefault("KERAS_BACKEND", "torch")
    import keras as k

    last = k.layers.Dense(len(set(y)), "softmax") if classifies else k.layers.Dense(1)
    inside = [k.layers.BatchNormalization(), k.layers.Dense(32, "relu")]
    model = k.Sequential([k.Input((x.shape[1],)), *inside, last])
    model.compile("adam", "sparse_categorical_crossentropy" if classifies else "mae")
    codes = np.unique(y, return_inverse=True)[1] if classifies else y
    model.fit(x.to_numpy(np.float32), codes, epochs=3, batch_size=256, verbose=0)
    return model


def hugging_face(x: Frame, y: Any, classifies: bool) -> Any:
    import torch as t
    from tiny_classifier import LENGTH, tiny_classifier

    t.manual_seed(0)
    model, tokenizer = tiny_classifier(len(set(y)) if classifies else 1, spread=0.5)
    codes = np.unique(y, return_inverse=True)[1] if classifies else (y - y.mean()) / y.std()
    wanted = t.tensor(codes) if classifies else t.tensor(codes).float()
    texts = x["text"].fillna("").tolist()
    steps = t.optim.Adam(model.train().parameters(), 0.002)
    for start in 3 * [*range(0, len(texts), 50)]:
        tokens = tokenizer(
            texts[start : start + 50],
            padding=True, truncation=True, max_length=LENGTH, return_tensors="pt",
        )  # fmt: skip
        tokens.pop("token_type_ids", None)
        steps.zero_grad()
        model(**tokens, labels=wanted[start : start + 50]).loss.backward()
        steps.step()
    return model.eval(), tokenizer


FRAMEWORKS: dict[str, Callable[[Frame, Any, bool], Any]] = {
    "scikit-learn": scikit_learn, "LightGBM": lightgbm, "XGBoost": xgboost,
    "CatBoost": catboost, "torch": torch, "Keras": keras, "Hugging Face": hugging_face,
}  # fmt: skip


def shaped(framework: str, frame: Frame) -> Frame:
    """The columns that the framework takes, as it takes them."""
    if framework == "torch":
        return frame.select_dtypes("number")
    if framework == "Keras":  # has no layer that takes missing numbers
        numbers = frame.select_dtypes("number")
        return numbers.fillna(numbers.median())
    if framework == "Hugging Face":
        lines = [", ".join(map(str, row)) for row in frame.itertuples(index=False)]
        whole = frame[frame.columns[0]].notna()  # of the others, the text itself is missing
        return pd.DataFrame({"text": pd.Series(lines).where(whole.to_numpy(), None)})
    if framework == "LightGBM":
        return frame.astype(dict.fromkeys(texts_of(frame), "category"))
    texts = texts_of(frame)
    return frame.assign(**{name: frame[name].fillna("") for name in texts})


Served = Callable[[Path], Client]
"""Deploys a folder; the client asks what it serves."""


@contextmanager
def stack() -> Iterator[Served]:
    from command_line import FREE_PORTS, Driftloop

    with tempfile.TemporaryDirectory() as home, ExitStack() as clients:
        driftloop = Driftloop(Path(home))
        settings = [word for each in FREE_PORTS for word in ("--set", each)]
        try:
            driftloop("up", "--detach", *settings, timeout=400)
            endpoints = driftloop("status")["endpoints"]
            control = endpoints["control"]

            def served(folder: Path) -> Client:
                driftloop("deploy", str(folder), "--at-once")
                return clients.enter_context(Client(endpoints["inference"], control=control))

            yield served
        finally:
            driftloop("down")


def compared(client: Client, name: str, native: Native, sample: Frame) -> str:
    """Whether what is served answers each row as the native model does."""
    rows = native.sample(sample)
    answers = native.answers(rows)
    # As an application would send them: a missing text is None, a missing number NaN.
    found = client.predict(name, rows.table)
    try:
        agreed = compare(rows, answers, {each: np.asarray(found[each]) for each in answers})
    except Differs as error:
        return f"served: {error}"
    return f"{agreed.rows:,} served equal, {agreed.largest_difference:.1g}"


def measured(
    folder: Path | None, framework: str, rows: int, served: Served | None
) -> Iterator[str]:
    for case in CASES:
        x, y, sample = rows_of(folder, case, rows)
        classifies = case != "a value"
        ready = shaped(framework, pd.concat([x, sample]))
        x, sample = ready[: len(x)].copy(), ready[len(x) :].reset_index(drop=True)
        model = FRAMEWORKS[framework](x, y, classifies)
        task = "classification" if classifies else "regression"
        said = task if framework == "torch" else None
        name = f"{framework} {case}".lower().replace(" ", "-")
        began = time.monotonic()
        with tempfile.TemporaryDirectory() as output:
            try:
                made = export(model, sample, name, output=output, task=said)
                found = f"{made.rows:,} equal, {made.largest_difference:.1g}"
                if served is not None:
                    client = served(Path(output))
                    found += f"; {compared(client, name, Native(model, said), sample)}"
            except Rejected as error:
                found = f"refused: {error}"
        print(f"{framework}, {case}: {found} ({time.monotonic() - began:.1f} s)", file=sys.stderr)
        yield found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--only", choices=FRAMEWORKS, action="append")
    parser.add_argument("--rows", type=int, default=5_000)
    parser.add_argument("--served", action="store_true")
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    print(f"| | {' | '.join(CASES)} |\n|---|{'---|' * len(CASES)}")
    with ExitStack() as running:
        served = running.enter_context(stack()) if given.served else None
        for framework in given.only or FRAMEWORKS:
            cells = measured(given.data, framework, given.rows, served)
            print(f"| {framework} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
