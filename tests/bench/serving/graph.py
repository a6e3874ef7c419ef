"""The graph that every subject serves: a LightGBM of 100 trees over 20 columns, given as one
tensor."""

from pathlib import Path

import numpy as np

COLUMNS = 20
TREES = 100


def write_graph(folder: Path) -> Path:
    """Write `folder/model.onnx` where it is missing; the same bytes each time. Returns its path."""
    path = folder / "model.onnx"
    if path.is_file():
        return path
    import lightgbm
    from onnxmltools import convert_lightgbm
    from onnxmltools.convert.common.data_types import FloatTensorType

    dice = np.random.default_rng(0)
    x = dice.normal(size=(5_000, COLUMNS)).astype(np.float32)
    model = lightgbm.LGBMClassifier(n_estimators=TREES, verbose=-1, n_jobs=1)
    model.fit(x, (x[:, 0] > 0).astype(int))
    types = [("x", FloatTensorType([None, COLUMNS]))]
    graph = convert_lightgbm(model, initial_types=types, zipmap=False, target_opset=15)
    folder.mkdir(parents=True, exist_ok=True)
    path.write_bytes(graph.SerializeToString())
    return path
