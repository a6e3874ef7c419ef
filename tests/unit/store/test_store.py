from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from driftloop_contracts.errors import Conflict, NotFound
from driftloop_contracts.model import Deployment, ModelSpec, ServedVersion, TrafficSplit
from driftloop_contracts.signature import Signature, TensorSpec
from driftloop_store import Store, open_store

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
TENSOR = TensorSpec("x", "FP32", (-1, 1))
SERVED = ServedVersion(1, "somewhere", Signature((TENSOR,), (TENSOR,)))
DEPLOYMENT = Deployment(ModelSpec("m"), (SERVED,), TrafficSplit(1))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = open_store(f"sqlite:///{tmp_path / 'store.db'}")
    yield opened
    opened.close()


def test_a_deployment_comes_back_as_it_was(store: Store) -> None:
    written = store.put_deployment(DEPLOYMENT)
    assert written == replace(DEPLOYMENT, revision=1)
    assert store.deployment("m") == written
    assert store.deployments() == [written]


def test_an_unknown_model_names_the_known_ones(store: Store) -> None:
    store.put_deployment(DEPLOYMENT)
    with pytest.raises(NotFound, match="known: m"):
        store.require_deployment("n")


def test_a_write_on_top_of_an_old_revision_is_refused(store: Store) -> None:
    first = store.put_deployment(DEPLOYMENT)
    store.put_deployment(first)
    with pytest.raises(Conflict):
        store.put_deployment(first)
    with pytest.raises(Conflict):
        store.put_deployment(DEPLOYMENT)


def test_only_one_retrain_of_a_model_is_active(store: Store) -> None:
    first = store.request_retrain("a", "m", NOW, {"reason": "one"})
    second = store.request_retrain("b", "m", NOW, {"reason": "two"})
    assert second["id"] == first["id"] == "a"
    store.update_retrain("a", state="failed", error="boom")
    assert store.retrain("a")["error"] == "boom"
    assert store.request_retrain("b", "m", NOW, {})["id"] == "b"
    assert [r["id"] for r in store.active_retrains()] == ["b"]


def test_only_one_rollout_of_a_model_is_active(store: Store) -> None:
    rollout = store.request_rollout("a", SERVED, "m", NOW, "because")
    assert store.request_rollout("a", SERVED, "m", NOW, "because")["id"] == "a"
    with pytest.raises(Conflict):
        store.request_rollout("b", SERVED, "m", NOW, "because")
    saved = store.save_rollout("a", rollout["revision"], "rolled_back", {}, {"event": "harm"})
    assert saved["revision"] == rollout["revision"] + 1
    assert [event["event"] for event in store.rollout_events("a")] == ["harm"]
    assert store.request_rollout("b", SERVED, "m", NOW, "again")["state"] == "pending"


def test_a_rollout_saved_by_two_is_saved_once(store: Store) -> None:
    revision = store.request_rollout("a", SERVED, "m", NOW, "")["revision"]
    store.save_rollout("a", revision, "running", {})
    with pytest.raises(Conflict):
        store.save_rollout("a", revision, "running", {})


def test_writers_at_the_same_time_wait_for_each_other(store: Store) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: store.put_cursor("c", {"n": n}), range(100)))
        ids = set(pool.map(lambda n: store.request_retrain(str(n), "m", NOW, {})["id"], range(50)))
    assert len(ids) == 1


def test_the_ledger_keeps_the_newest_counts(store: Store) -> None:
    store.put_ledger("r", "m", 1, served=3, acked=1, spooled=2, dropped={})
    store.put_ledger("r", "m", 1, served=4, acked=3, spooled=0, dropped={"quota": 1})
    (row,) = store.ledger("m")
    assert (row["served"], row["acked"], row["dropped"]) == (4, 3, {"quota": 1})
    assert store.ledger("other") == []


def test_an_opened_store_can_be_opened_again(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'store.db'}"
    open_store(url).put_deployment(DEPLOYMENT)
    assert len(open_store(url).deployments()) == 1
