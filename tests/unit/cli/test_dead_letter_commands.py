import json
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from lake_records import message, prediction_message, prediction_rows
from typer.testing import CliRunner

from driftloop_cli.main import app
from driftloop_contracts.events import LABELS, PREDICTIONS
from driftloop_contracts.model import Deployment, ModelSpec, TrafficSplit
from driftloop_lake.records import DeadLetter
from driftloop_lake.writer import LakeWriter
from driftloop_monitoring.archive.bus_records import read_record
from driftloop_store import open_store


def asked(state: Path, *arguments: str) -> Any:
    done = CliRunner().invoke(
        app, ["dead-letters", *arguments, "--json", "--state-dir", str(state)]
    )
    return json.loads(done.stdout)


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """A lake with two dead letters: one of a model that was deployed since, one that says
    nothing."""
    good = read_record(prediction_message(prediction_rows(0, 0), 3))
    bad = read_record(message(LABELS, b"{}", 0))
    letter = DeadLetter(good.origin, "no model 'loan' was ever deployed")
    LakeWriter(str(tmp_path / "lake")).append([letter, bad])
    with closing(open_store(f"sqlite:///{tmp_path / 'store.db'}")) as store:
        store.put_deployment(Deployment(ModelSpec("loan"), (), TrafficSplit(1)))
    return tmp_path


def test_dead_letters_are_listed_with_their_reasons(state: Path) -> None:
    places = {one["place"]: one["reason"] for one in asked(state)}
    assert places.keys() == {f"{LABELS}:0:0", f"{PREDICTIONS}:0:3"}
    assert "ever deployed" in places[f"{PREDICTIONS}:0:3"]
    assert len(asked(state, f"{LABELS}:0:0")) == 1


def test_a_replay_says_what_was_archived_and_why_the_rest_was_not(state: Path) -> None:
    found = {one["place"]: one for one in asked(state, "--replay")}
    assert found[f"{PREDICTIONS}:0:3"]["rows"] == 2
    assert "prediction_id" in found[f"{LABELS}:0:0"]["reason"]
    assert [one["place"] for one in asked(state)] == [f"{LABELS}:0:0"]


def test_a_lake_that_is_not_there_has_none_and_is_not_made(tmp_path: Path) -> None:
    assert asked(tmp_path) == []
    assert not (tmp_path / "lake").exists()


@pytest.mark.parametrize("place", ["17", "labels:0", "labels:0:x"])
def test_a_place_that_is_none_is_rejected(state: Path, place: str) -> None:
    assert "TOPIC:PARTITION:OFFSET" in asked(state, place)["error"]
