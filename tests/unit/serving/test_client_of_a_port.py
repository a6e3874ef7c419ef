"""The client asks a replica's serving port as it is."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from serving_port import ServingPort, serving_port
from sklearn.compose import make_column_transformer
from sklearn.ensemble import RandomForestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from driftloop_client import AsyncClient, NotFound, Rejected
from driftloop_contracts.model import TrafficSplit
from driftloop_export import export


@pytest.fixture
async def port(tmp_path: Path, scaler: Path):
    async with serving_port(tmp_path) as found:
        found.deploy(scaler, TrafficSplit(1), 1, 2)
        yield found


async def test_an_array_goes_there_and_back_in_binary(port: ServingPort) -> None:
    async with AsyncClient(port.url) as client:
        answer = await client.predict("m", np.arange(5.0))
        assert answer["y"].reshape(-1).tolist() == [0.0, 2.0, 4.0, 6.0, 8.0]
        (kept,) = port.kept()
        assert answer.prediction_id in kept.ids
        assert (await client.predict("m", {"x": [1.0]}, version=2)).version == 2


async def test_unknown_models_and_rows_are_refused_with_a_sentence(port: ServingPort) -> None:
    async with AsyncClient(port.url) as client:
        with pytest.raises(NotFound, match="nothing"):
            await client.predict("nothing", {"x": [1.0]})
        with pytest.raises(Rejected, match="'z'"):
            await client.predict("m", {"z": [1.0]})


async def test_an_exported_pipeline_answers_as_its_library(
    port: ServingPort, tmp_path: Path
) -> None:
    cities = np.array(["Ulm", "Bonn", None] * 100, dtype=object)
    frame = pd.DataFrame({"income": np.linspace(0.1, 3.0, 300), "city": cities})
    repaid = ((frame.income > 1.5) ^ (frame.city == "Bonn")).astype(int)
    encode = (OneHotEncoder(handle_unknown="ignore"), ["city"])
    steps = make_column_transformer(encode, remainder="passthrough")
    model = make_pipeline(steps, RandomForestClassifier(10, random_state=0)).fit(frame, repaid)
    made = export(model, frame, "loans", output=tmp_path / "made")
    port.deploy(made.folder, name="loans")
    async with AsyncClient(port.url) as client:
        answer = await client.predict("loans", frame)
    assert answer["label"].tolist() == model.predict(frame).tolist()
    np.testing.assert_allclose(answer["probabilities"], model.predict_proba(frame), atol=1e-6)
