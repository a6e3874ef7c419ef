"""What a model answered to rows."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from driftloop_contracts.errors import Rejected


@dataclass(frozen=True)
class Prediction:
    """n rows. `outputs`: arrays [n, …] by name. `prediction_ids` [n] and `row_numbers` [n] name
    each row for its label: a request has one id, and its rows are numbered. `versions` [n]: which
    version answered."""

    model: str
    outputs: dict[str, NDArray[Any]]
    prediction_ids: tuple[str, ...]
    row_numbers: tuple[int, ...]
    versions: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.prediction_ids)

    def __getitem__(self, output: str) -> NDArray[Any]:
        return self.outputs[output]

    @property
    def version(self) -> int:
        """That of the first row; rows of one request have the same."""
        return self.versions[0]

    @property
    def prediction_id(self) -> str:
        """That of the first row; rows of one request have the same."""
        return self.prediction_ids[0]

    @property
    def rows(self) -> list[dict[str, Any]]:
        """Each row as plain values: its outputs, `prediction_id`, `row` and `version`."""
        columns = {name: values.tolist() for name, values in self.outputs.items()}
        columns["prediction_id"] = list(self.prediction_ids)
        columns["row"], columns["version"] = list(self.row_numbers), list(self.versions)
        names = list(columns)
        return [dict(zip(names, row, strict=True)) for row in zip(*columns.values(), strict=True)]

    def labelled(self, labels: Sequence[Any] | NDArray[Any]) -> dict[str, list[Any]]:
        """What `feedback` takes: the true labels of all rows. Raises Rejected if one is missing."""
        values = np.asarray(labels).reshape(-1).tolist()
        if len(values) != len(self):
            raise Rejected(f"{len(values)} labels for {len(self)} rows")
        return {
            "prediction_id": list(self.prediction_ids),
            "row": list(self.row_numbers),
            "label": values,
        }

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(self.rows)


def joined(parts: Sequence[Prediction]) -> Prediction:
    """Answers to the parts of one frame, as one."""
    if len(parts) == 1:
        return parts[0]
    first = parts[0]
    outputs = {
        name: np.concatenate([part.outputs[name] for part in parts]) for name in first.outputs
    }
    return Prediction(
        first.model,
        outputs,
        tuple(value for part in parts for value in part.prediction_ids),
        tuple(value for part in parts for value in part.row_numbers),
        tuple(value for part in parts for value in part.versions),
    )
