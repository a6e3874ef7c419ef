"""Is a searched model better than the recipes' own parameters, LightGBM's defaults, and FLAML's?

    python tests/bench/bench_search.py [--data FOLDER] [--rows 20000] [--budget 60] [--cpu]
        [--only car_loan] [--flaml [PYTHON]]

FOLDER holds car_loan, car_price, credit_card and employment as parquet files; without it, the
shorter files of the tests and the demo are read. All see the same rows, oldest first, and are
judged by the same loss on the newest 15 %; both search on one thread. --cpu: budgets count CPU
seconds, for a machine that others use, too. --flaml: the Python of an environment with
`flaml[automl]`, pandas and pyarrow; without one, it is made in .bench-envs. For ten minutes each:

    python tests/bench/bench_search.py --data FOLDER --cpu --budget 600 --flaml --only car_loan

Prints a table in Markdown; differences are shares of the loss of what is compared with.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from driftloop_contracts.kind import Task
from driftloop_contracts.model import ModelSpec
from driftloop_demo.data_set import FILE
from driftloop_retrain.tabular.dataset import Split, from_file, input_tensors, split
from driftloop_retrain.tabular.evaluate import loss_scale, losses
from driftloop_retrain.tabular.recipes import FitContext, find_recipe
from driftloop_retrain.tabular.recipes.encoding import fit_encoding
from driftloop_retrain.tabular.search import search
from driftloop_settings import RetrainSettings

NOT_FEATURES = ("id", "part", "year", "timestamp")
FLAML = """
import sys
import time

if sys.argv[5] == "cpu":
    begun = time.time()
    time.time = lambda: begun + time.process_time()
import numpy as np
import pandas as pd
from flaml import AutoML

folder, task, budget, seed = sys.argv[1], sys.argv[2], float(sys.argv[3]), int(sys.argv[4])
train, held = pd.read_parquet(folder + "/train.parquet"), pd.read_parquet(folder + "/held.parquet")
y = train.pop("driftloop_label")
for name in train.select_dtypes(["object", "string"]):
    kinds = pd.CategoricalDtype(sorted(train[name].dropna().unique()))
    train[name], held[name] = train[name].astype(kinds), held[name].astype(kinds)
automl = AutoML()
metric = "accuracy" if task == "classification" else "mse"
automl.fit(train, y, task=task, time_budget=budget, metric=metric, n_jobs=1, seed=seed, verbose=0)
found = np.asarray(automl.predict(held))
found = found.astype(str) if found.dtype == object else found
np.save(folder + "/flaml.npy", found, allow_pickle=False)
print(automl.best_estimator)
"""


@dataclass(frozen=True)
class Case:
    name: str
    label: str
    task: Task
    time_column: str | None


CASES = (
    Case("car_loan", "repaid", "classification", "timestamp"),
    Case("credit_card", "card", "classification", "timestamp"),
    Case("car_price", "price", "regression", "timestamp"),
    Case("employment", "employed", "classification", "year"),
)


SHIPPED = {
    "car_loan": FILE,
    "credit_card": Path(__file__).parents[1] / "fixtures" / "credit_card.parquet",
    "car_price": Path(__file__).parents[1] / "fixtures" / "car_price.parquet",
}


def parts_of(folder: Path | None, case: Case, rows: int) -> Split:
    path = SHIPPED[case.name] if folder is None else folder / f"{case.name}.parquet"
    names = set(pq.read_schema(path).names)
    time_column = case.time_column if case.time_column in names else None
    drop = tuple(names & {*NOT_FEATURES} - {time_column})
    data = from_file(path, case.task, case.label, time_column, drop)
    # Fewer rows of each period, not fewer periods.
    every = max(1, data.rows // rows)
    return split(data.where(np.arange(data.rows) % every == 0), RetrainSettings(), None)


def searched(parts: Split, case: Case, budget_s: float, cpu: bool) -> tuple[Any, float, str]:
    """The answers on the hold-out, the seconds in all, and what won."""
    clock = time.process_time if cpu else time.monotonic
    started, settings = clock(), RetrainSettings(budget_s=budget_s)
    classes = np.unique(parts.fit.labels) if case.task == "classification" else None
    spec = ModelSpec(case.name, case.task, "label" if classes is not None else "value", "tabular")
    with tempfile.TemporaryDirectory() as folder:
        context = FitContext(
            case.task, input_tensors(parts.fit.features), 0, Path(folder), classes=classes
        )
        recipes = [find_recipe(name) for name in settings.families]
        found = search(spec, parts, recipes, context, lambda *_: None, settings, clock=clock)
        answers = found.model.predict(parts.holdout.features)[spec.output or ""]
    spent = clock() - started
    won = f"{found.best.family}, {len(found.trials)} done of {found.record['count']}"
    return answers, spent, won


def lightgbm_defaults(parts: Split, case: Case) -> Any:
    import lightgbm

    inputs = input_tensors(parts.fit.features)
    encoding = fit_encoding(parts.fit.features, inputs)
    kind = lightgbm.LGBMClassifier if case.task == "classification" else lightgbm.LGBMRegressor
    model = kind(n_jobs=1, verbosity=-1, random_state=0)
    model.fit(encoding.matrix(parts.fit.features), parts.fit.labels)
    return model.predict(encoding.matrix(parts.holdout.features))


def flaml(python: str, parts: Split, case: Case, budget_s: float, cpu: bool) -> Any:
    with tempfile.TemporaryDirectory() as folder:
        labels = pa.array(parts.fit.labels)
        pq.write_table(
            parts.fit.features.append_column("driftloop_label", labels), f"{folder}/train.parquet"
        )
        pq.write_table(parts.holdout.features, f"{folder}/held.parquet")
        words = [python, "-c", FLAML, folder, case.task, str(budget_s), "0"]
        words.append("cpu" if cpu else "clock")
        subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
        return np.load(f"{folder}/flaml.npy")


def flaml_python() -> str:
    """Of an environment of its own, made if it is not there."""
    folder = Path(__file__).parents[2] / ".bench-envs" / "flaml"
    python = folder / "bin" / "python"
    if not python.exists():
        uv = str(Path(sys.executable).with_name("uv"))
        subprocess.run([uv, "venv", "--python", sys.executable, str(folder)], check=True)
        needed = ["flaml[automl]", "pandas", "pyarrow"]
        subprocess.run([uv, "pip", "install", "--python", str(python), *needed], check=True)
    return str(python)


def less(ours: Any, theirs: Any) -> str:
    """The difference as a share of theirs, and its standard error."""
    gained = ours - theirs
    error = gained.std() / len(gained) ** 0.5
    return f"{gained.mean() / theirs.mean():+.1%} ({error / theirs.mean():.1%})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--budget", type=float, default=60.0)
    parser.add_argument("--cpu", action="store_true")
    parser.add_argument("--only")
    parser.add_argument("--flaml", nargs="?", const="")
    asked = parser.parse_args()
    python = flaml_python() if asked.flaml == "" else asked.flaml
    print(
        "| data | own parameters | searched | LightGBM's defaults | searched less them (SE) "
        "| FLAML | searched less it (SE) | won | s |"
    )
    print("|---|---|---|---|---|---|---|---|---|", flush=True)
    there = CASES if asked.data else [each for each in CASES if each.name in SHIPPED]
    for case in (each for each in there if asked.only in (None, each.name)):
        parts = parts_of(asked.data, case, asked.rows)
        labels = parts.holdout.labels
        own, _, _ = searched(parts, case, 0.0, asked.cpu)
        scale = loss_scale(case.task, labels, own)

        def lost(answers: Any, case: Case = case, labels: Any = labels, scale: Any = scale) -> Any:
            return losses(case.task, labels, np.asarray(answers).astype(labels.dtype), scale)

        before = lost(own)
        answers, seconds, won = searched(parts, case, asked.budget, asked.cpu)
        after, plain = lost(answers), lost(lightgbm_defaults(parts, case))
        other = ("", "")
        if python is not None:
            found = lost(flaml(python, parts, case, asked.budget, asked.cpu))
            other = (f"{found.mean():.5f}", less(after, found))
        print(
            f"| {case.name} | {before.mean():.5f} | {after.mean():.5f} | {plain.mean():.5f} "
            f"| {less(after, plain)} | {' | '.join(other)} | {won} | {seconds:.0f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
