"""A trained model beside its graph: what it answers, and the graph that answers the same."""

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import onnx

from driftloop_contracts.errors import Rejected
from driftloop_contracts.graph_names import output_name
from driftloop_contracts.kind import Task
from driftloop_export.adapters import adapter_of
from driftloop_export.comparison import Agreement, Differs, compare
from driftloop_export.graph import assembled
from driftloop_export.port import NotExportable, Outputs
from driftloop_export.sample import Sample, sample_of
from driftloop_onnx import OnnxModel

MODEL = "model.onnx"
BATCH_ROWS = 8_192
TASKS = ("classification", "regression")


class Native:
    """A trained model. task, classes: for a torch module, which does not say them. Raises
    NotExportable for a model of an unknown framework."""

    def __init__(
        self, model: Any, task: str | None = None, classes: Sequence[Any] | None = None
    ) -> None:
        if task not in (None, *TASKS):
            raise Rejected(f"task {task!r}: it is classification or regression")
        self._model, self._task = model, cast("Task | None", task)
        self._adapter = adapter_of(model, classes)

    def sample(self, rows: Any) -> Sample:
        """The rows as the model takes them. Raises Rejected if they do not fit."""
        return sample_of(rows, self._adapter.columns(self._model))

    @property
    def columns(self) -> Sequence[str] | None:
        """The columns that the model was trained on; None: it does not say."""
        return self._adapter.columns(self._model)

    def part(self, sample: Sample) -> Sample:
        """A sample with the model's columns alone. Raises Rejected if it lacks one."""
        return sample if self.columns is None else sample.select(self.columns)

    def answers(self, sample: Sample) -> Outputs:
        """What the model answers. Raises Rejected if it does another task than it should."""
        answers = self._adapter.answers(self._model, sample, self._task)
        found = "classification" if "label" in answers else "regression"
        if self._task not in (None, found):
            raise Rejected(f"the model does {found}, not {self._task}")
        return answers

    def write(
        self, sample: Sample, answers: Outputs, folder: Path
    ) -> tuple[Agreement, Mapping[str, Any]]:
        """Write the first graph that answers each row of the sample as the model does; return how
        well, and the graph's outputs by its own names. Raises NotExportable."""
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            path = Path(scratch) / MODEL
            agreement, outputs = self._agreeing(sample, answers, path)
            path.replace(folder / MODEL)
        return agreement, outputs

    def _agreeing(
        self, sample: Sample, answers: Outputs, path: Path
    ) -> tuple[Agreement, Mapping[str, Any]]:
        reason: NotExportable | None = None
        bodies = self._adapter.bodies(self._model, sample, answers)
        names = {name: output_name(name, sample.columns) for name in answers}
        while True:
            try:
                body = next(bodies)
            except StopIteration:
                break
            except NotExportable as error:
                raise (reason or error) from None
            try:
                onnx.save(assembled(body, sample.inputs, answers), path)
                graph = outputs_of(path, sample)
                ours = {name: graph[target] for name, target in names.items()}
                agreement = compare(sample, answers, ours)
            except Differs as error:
                reason = error if not isinstance(reason, Differs) else reason
            except NotExportable:
                raise
            except Rejected as error:  # it cannot be loaded
                reason = reason or NotExportable(f"the converted graph does not load: {error}")
            except Exception as error:  # onnx and onnxruntime raise whatever they like
                first = str(error).strip().splitlines() or [type(error).__name__]
                reason = reason or NotExportable(f"the converted graph does not run: {first[0]}")
            else:
                return agreement, {names[name]: values for name, values in ours.items()}
        raise reason or NotExportable("the model has no form as a graph")


def outputs_of(path: Path, sample: Sample) -> dict[str, np.ndarray]:
    """What the graph in a file answers to the sample, by output."""
    graph, feeds = OnnxModel(path), sample.feeds()
    parts = [
        graph.run({name: values[start : start + BATCH_ROWS] for name, values in feeds.items()})
        for start in range(0, sample.rows, BATCH_ROWS)
    ]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
