"""What every store does: on SQLite and on PostgreSQL, with several writers at once."""

from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import ExitStack, closing, suppress
from dataclasses import replace
from datetime import UTC, datetime
from multiprocessing import get_context
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from driftloop_contracts.errors import Conflict, NotFound
from driftloop_contracts.judgement import Decision
from driftloop_contracts.model import Deployment, ModelSpec, ServedVersion, TrafficSplit
from driftloop_contracts.signature import Signature, TensorSpec
from driftloop_store import Store, open_store
from driftloop_store.tables import metadata

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
TENSOR = TensorSpec("x", "FP32", (-1, 1))
SERVED = ServedVersion(1, "somewhere", Signature((TENSOR,), (TENSOR,)))
DEPLOYMENT = Deployment(ModelSpec("m"), (SERVED,), TrafficSplit(1))


Open = Callable[[], Store]


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.integration)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'store.db'}"
    return str(request.getfixturevalue("postgres_url"))


@pytest.fixture
def another(url: str) -> Iterator[Open]:
    """Opens the same store once more, as another process would."""
    with ExitStack() as opened:
        yield lambda: opened.enter_context(closing(open_store(url)))


@pytest.fixture
def store(another: Open) -> Store:
    return another()


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


def test_the_ledger_keeps_the_newest_counts(store: Store) -> None:
    store.put_ledger("r", "m", 1, served=3, acked=1, spooled=2, dropped={})
    store.put_ledger("r", "m", 1, served=4, acked=3, spooled=0, dropped={"quota": 1})
    (row,) = store.ledger("m")
    assert (row["served"], row["acked"], row["dropped"]) == (4, 3, {"quota": 1})
    assert store.ledger("other") == []


def test_an_opened_store_can_be_opened_again(another: Open) -> None:
    another().put_deployment(DEPLOYMENT)
    assert len(another().deployments()) == 1


def test_the_migrated_schema_is_the_one_the_code_uses(url: str) -> None:
    open_store(url).close()
    engine = sa.create_engine(url)
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
    engine.dispose()


def test_the_same_retrain_asked_for_again_is_one(store: Store) -> None:
    asked = store.request_retrain("a", "m", NOW, {"reason": "one"})
    assert store.request_retrain("a", "m", NOW, {"reason": "two"}) == asked
    store.update_retrain("a", state="failed")
    assert store.request_retrain("a", "m", NOW, {})["state"] == "failed"


def test_the_same_rollout_asked_for_after_its_end_stays_ended(store: Store) -> None:
    store.request_rollout("a", SERVED, "m", NOW, "")
    store.save_rollout("a", 1, "promoted", {})
    assert store.request_rollout("a", SERVED, "m", NOW, "")["state"] == "promoted"


def test_a_finding_written_twice_is_kept_once(store: Store) -> None:
    for _ in range(2):
        store.add_decision(Decision("d", "m", NOW, "operator", "retrain", "", {}, {}))
    assert len(store.decisions()) == 1


def test_a_cursor_is_replaced_and_dropped(store: Store) -> None:
    store.put_cursor("c", {"n": 1})
    store.put_cursor("c", {"n": 2})
    assert store.cursor("c") == {"n": 2}
    store.drop_cursor("c")
    assert store.cursor("c") is None


# Several writers at once: each has a store of its own, and all begin together.


def at_once(another: Open, write: Callable[[Store, int], Any], writers: int = 4) -> list[Any]:
    """What each writer's call returned; a Conflict counts as an answer."""
    stores = [another() for _ in range(writers)]
    ready = Barrier(writers)

    def one(number: int) -> Any:
        ready.wait()
        try:
            return write(stores[number], number)
        except Conflict:
            return Conflict

    with ThreadPoolExecutor(writers) as pool:
        return list(pool.map(one, range(writers)))


def test_roles_that_start_together_make_the_tables_once(url: str) -> None:
    with ThreadPoolExecutor(4) as pool:
        opened = list(pool.map(open_store, [url] * 4))
    opened[0].put_cursor("c", {"n": 1})
    assert all(store.cursor("c") == {"n": 1} for store in opened)
    for store in opened:
        store.close()


def test_two_schedulers_start_one_retrain(another: Open) -> None:
    def ask(store: Store, number: int) -> set[str]:
        return {store.request_retrain(f"{number}-{n}", "m", NOW, {})["id"] for n in range(10)}

    assert len(set.union(*at_once(another, ask))) == 1
    assert len(another().retrains()) == 1


def test_retrains_that_end_while_others_ask_never_overlap(another: Open) -> None:
    def ask_and_end(store: Store, number: int) -> None:
        for n in range(5):
            retrain = store.request_retrain(f"{number}-{n}", "m", NOW, {})
            store.update_retrain(retrain["id"], state="failed")
            assert len(store.active_retrains()) <= 1

    at_once(another, ask_and_end)
    assert {retrain["state"] for retrain in another().retrains()} == {"failed"}


def test_two_gateways_start_one_rollout(another: Open) -> None:
    answers = at_once(
        another, lambda store, n: store.request_rollout(str(n), SERVED, "m", NOW, "")["id"]
    )
    (rollout,) = another().rollouts()
    assert sorted(map(str, answers)) == sorted([rollout["id"], *[str(Conflict)] * 3])


def test_two_controllers_take_each_step_once(another: Open) -> None:
    another().request_rollout("a", SERVED, "m", NOW, "")

    def drive(store: Store, number: int) -> int:
        taken = 0
        for _ in range(20):
            revision = store.rollout("a")["revision"]
            with suppress(Conflict):
                store.save_rollout("a", revision, "running", {}, {"by": number})
                taken += 1
        return taken

    taken = sum(at_once(another, drive))
    assert another().rollout("a")["revision"] == 1 + taken
    assert len(another().rollout_events("a")) == taken


def test_two_gateways_deploy_a_model_once(another: Open) -> None:
    answers = at_once(another, lambda store, _: store.put_deployment(DEPLOYMENT).revision)
    assert sorted(map(str, answers)) == sorted(["1", *[str(Conflict)] * 3])


def test_two_gateways_change_a_deployment_one_after_the_other(another: Open) -> None:
    first = another().put_deployment(DEPLOYMENT)
    answers = at_once(another, lambda store, _: store.put_deployment(first).revision)
    assert sorted(map(str, answers)) == sorted(["2", *[str(Conflict)] * 3])


def test_what_several_write_to_one_retrain_is_all_there(another: Open) -> None:
    another().request_retrain("a", "m", NOW, {})

    def report(store: Store, number: int) -> None:
        for n in range(5):
            store.update_retrain("a", **fields(number, n))

    at_once(another, report)
    retrain = another().retrain("a")
    assert [retrain[f"writer_{number}"] for number in range(4)] == [4] * 4


def test_a_cursor_first_written_by_several_is_written(another: Open) -> None:
    at_once(another, lambda store, n: store.put_cursor("c", {"n": n}))
    at_once(another, lambda store, n: store.put_ledger(
        "r", "m", 1, served=n, acked=n, spooled=0, dropped={}
    ))  # fmt: skip
    (row,) = another().ledger()
    assert another().cursor("c") is not None
    assert row["served"] in range(4)


def test_two_processes_start_one_retrain_and_lose_no_update(url: str, store: Store) -> None:
    with ProcessPoolExecutor(2, get_context("spawn")) as pool:
        ids = set(pool.map(_ask_and_report, [url] * 2, range(2)))
    (retrain,) = store.retrains()
    assert ids == {retrain["id"]}
    assert [retrain["writer_0"], retrain["writer_1"]] == [19, 19]


def fields(number: int, value: int) -> Any:
    return {f"writer_{number}": value}


def _ask_and_report(url: str, number: int) -> str:
    with closing(open_store(url)) as store:
        retrain_id = str(store.request_retrain(str(number), "m", NOW, {})["id"])
        for n in range(20):
            store.update_retrain(retrain_id, **fields(number, n))
    return retrain_id
