"""Real rows for exports: binary, three classes, a value; with texts, and with missing values."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

ROWS = 1_500


@dataclass(frozen=True)
class Rows:
    """`x`: the columns of features; `y`: the labels. Half is to train on, half to export with."""

    x: pd.DataFrame
    y: np.ndarray

    @property
    def train(self) -> tuple[pd.DataFrame, np.ndarray]:
        return self.x[: ROWS // 2], self.y[: ROWS // 2]

    @property
    def sample(self) -> pd.DataFrame:
        return self.x[ROWS // 2 :].reset_index(drop=True)

    @property
    def labels(self) -> np.ndarray:
        return self.y[ROWS // 2 :]

    @property
    def numbers(self) -> "Rows":
        return Rows(self.x.select_dtypes("number"), self.y)

    @property
    def texts(self) -> list[str]:
        return [
            name
            for name in self.x
            if not pd.api.types.is_any_real_numeric_dtype(self.x[name])
            and not pd.api.types.is_bool_dtype(self.x[name])
        ]

    def as_categories(self) -> "Rows":
        return Rows(self.x.astype(dict.fromkeys(self.texts, "category")), self.y)

    def with_holes(self, share: float = 0.08) -> "Rows":
        """With values missing at random, of numbers and texts."""
        dice, holed = np.random.default_rng(0), self.x.copy()
        for name in holed:
            if not pd.api.types.is_bool_dtype(holed[name]):
                holed[name] = holed[name].mask(dice.random(len(holed)) < share)
        return Rows(holed, self.y)


def rows_of(path: Path, label: str) -> Rows:
    frame: Any = pq.read_table(path).to_pandas()[:ROWS].copy()
    for name in frame.select_dtypes("category"):
        frame[name] = frame[name].astype(str)
    y = frame.pop(label).to_numpy()
    return Rows(frame.drop(columns=["id", "timestamp", "part"], errors="ignore"), y)
