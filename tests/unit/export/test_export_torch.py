"""torch modules: a matrix of all columns, or columns by their names."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from export_rows import Rows
from torch import nn

from driftloop_contracts.errors import Rejected
from driftloop_export import NotExportable, export
from driftloop_onnx import OnnxModel


def network(width: int, outputs: int) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(width, 8), nn.ReLU(), nn.Linear(8, outputs))


@pytest.mark.parametrize("logits", [1, 2])
def test_two_classes(logits: int, loans: Rows, tmp_path: Path) -> None:
    rows = loans.numbers
    model = network(rows.x.shape[1], logits)
    made = export(
        model, rows.sample, "m", labels=rows.labels, output=tmp_path, task="classification"
    )
    assert made.largest_difference <= 1e-5
    assert OnnxModel(tmp_path).signature.inputs[0].name == "car_value"


def test_classes_with_names(cards: Rows, tmp_path: Path) -> None:
    rows, names = cards.numbers, sorted(set(cards.y))
    model = network(rows.x.shape[1], 3)
    export(model, rows.sample, "m", labels=rows.labels, output=tmp_path, classes=names)
    answer = OnnxModel(tmp_path).run({n: rows.sample[[n]].to_numpy() for n in rows.x})
    assert set(answer["label"].tolist()) <= set(names)


def test_a_value(prices: Rows, tmp_path: Path) -> None:
    rows = prices.numbers
    made = export(network(rows.x.shape[1], 1), rows.sample, "m", output=tmp_path, task="regression")
    assert made.task == "regression"


class WithCity(nn.Module):
    """An embedding of a whole number beside a number that may be missing."""

    def __init__(self) -> None:
        super().__init__()
        self.places, self.last = nn.Embedding(5, 3), nn.Linear(4, 2)

    def forward(self, city: torch.Tensor, income: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.last(
            torch.cat([self.places(city[:, 0]), torch.nan_to_num(income)], dim=1)
        )
        return found


def test_columns_by_their_names_with_missing_values(tmp_path: Path) -> None:
    torch.manual_seed(0)
    income = np.where(np.arange(60) % 7, np.arange(60) / 10, np.nan).astype(np.float32)
    rows = {"income": income, "city": np.arange(60) % 5}
    export(WithCity(), rows, "m", output=tmp_path, task="classification")
    signature = OnnxModel(tmp_path).signature
    assert [(t.name, t.datatype) for t in signature.inputs] == [
        ("income", "FP32"),
        ("city", "INT64"),
    ]


def test_a_task_must_be_said(loans: Rows, tmp_path: Path) -> None:
    with pytest.raises(Rejected, match="task="):
        export(network(4, 2), loans.numbers.sample, "m", output=tmp_path)


def test_texts_are_refused_with_the_way_out(loans: Rows, tmp_path: Path) -> None:
    with pytest.raises(NotExportable, match=r"'salary_range' holds texts.*codes"):
        export(network(4, 2), loans.sample, "m", output=tmp_path, task="classification")


def test_a_module_with_several_outputs_has_its_first_layers_once(tmp_path: Path) -> None:
    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.trunk = nn.Linear(2, 8)
            self.approve, self.amount = nn.Linear(8, 2), nn.Linear(8, 1)

        def forward(self, matrix: torch.Tensor) -> dict[str, torch.Tensor]:
            hidden = torch.relu(self.trunk(matrix))
            return {"amount": self.amount(hidden), "approve": self.approve(hidden)}

    torch.manual_seed(0)
    module = Both()
    columns = {name: np.linspace(-3, 3, 40, dtype=np.float32) for name in "ab"}
    export(
        module,
        columns,
        "m",
        [{"approve": "yes", "amount": 1.5}] * 40,
        tmp_path,
        {"approve": "classification", "amount": "regression"},
        classes={"approve": ["no", "yes"]},
    )
    found = OnnxModel(tmp_path).run({n: values[:, None] for n, values in columns.items()})
    with torch.no_grad():
        native = module(torch.tensor(np.stack([*columns.values()], axis=1)))
    np.testing.assert_allclose(found["amount"].ravel(), native["amount"].ravel(), atol=1e-5)
    chosen = np.array(["no", "yes"])[native["approve"].argmax(dim=1)]
    assert found["approve"].ravel().tolist() == chosen.tolist()
    kinds = [n.op_type for n in onnx.load(tmp_path / "model.onnx").graph.node]
    assert (kinds.count("Relu"), kinds.count("Gemm")) == (1, 3)


class Branching(nn.Module):
    """Its operators depend on the rows."""

    def forward(self, matrix: torch.Tensor) -> torch.Tensor:
        return matrix[:, :1] if matrix.sum() > 0 else matrix[:, 1:2]


def test_a_module_that_torch_cannot_trace_is_refused(loans: Rows, tmp_path: Path) -> None:
    with pytest.raises(NotExportable, match=r"torch\.onnx cannot export the module"):
        export(Branching(), loans.numbers.sample, "m", output=tmp_path, task="regression")


def test_other_columns_than_the_module_takes_are_refused(loans: Rows, tmp_path: Path) -> None:
    width = loans.numbers.x.shape[1]
    with pytest.raises(Rejected, match=r"does not answer the sample's columns.*shapes"):
        export(network(width + 1, 1), loans.numbers.sample, "m", output=tmp_path, task="regression")
