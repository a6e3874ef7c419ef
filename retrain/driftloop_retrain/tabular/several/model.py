"""Trained models of several labels as the one model that is served."""

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from driftloop_export.joining import joined
from driftloop_retrain.tabular.recipes.fitted_together import FittedTogether, of_member
from driftloop_retrain.tabular.recipes.port import FittedModel
from driftloop_retrain.tabular.several.outputs import Classes, LabelledOutput

__all__ = ["FittedTogether", "ServedTogether", "of_member"]

GRAPH = "model.onnx"


@dataclass(frozen=True)
class ServedTogether:
    """The model that is served: outputs by the names, types and shapes of the champion's."""

    outputs: Sequence[LabelledOutput]
    members: Mapping[str, FittedModel]
    classes: Mapping[str, Classes]

    def export(self, folder: Path) -> None:
        """Write one `model.onnx` of all members, and the files that they keep beside it. Raises
        Rejected if their graphs do not go together."""
        import onnx

        folder.mkdir(parents=True, exist_ok=True)
        parts = []
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            for number, output in enumerate(self.outputs):
                part = Path(scratch) / str(number)
                self.members[output.label].export(part)
                taken = output.taken(self.classes[output.label])
                parts.append((onnx.load(part / GRAPH), taken))
                for kept in part.iterdir():
                    if kept.is_dir():
                        shutil.copytree(kept, folder / kept.name, dirs_exist_ok=True)
            onnx.save(joined(parts), folder / GRAPH)
