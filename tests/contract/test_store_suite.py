"""What every store does: on SQLite and on PostgreSQL, with several writers at once."""

from collections import Counter
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
from alert_cases import performance_alert

from driftloop_contracts.alert import AlertEvent, AlertState
from driftloop_contracts.errors import Conflict, NotFound
from driftloop_contracts.judgement import Decision
from driftloop_contracts.model import Deployment, ModelSpec, ServedVersion, TrafficSplit
from driftloop_contracts.replica import HeldVersions, ReplicaReport
from driftloop_contracts.retrain import PinnedData, Retrain, RetrainEvent, Stage
from driftloop_contracts.signature import Signature, TensorSpec
from driftloop_store import Store, open_store
from driftloop_store.tables import metadata

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
TENSOR = TensorSpec("x", "FP32", (-1, 1))
SERVED = ServedVersion(1, "somewhere", Signature((TENSOR,), (TENSOR,)))
BODY = {"candidate": SERVED.to_dict()}
DEPLOYMENT = Deployment(ModelSpec("m"), (SERVED,), TrafficSplit(1))


ALERT = performance_alert(NOW)
DECISION = Decision(
    decision_id="d",
    model="m",
    at=NOW,
    trigger="operator",
    verdict="retrain",
    reason="",
    evidence={},
    policy={},
)
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


def asked(id_: str, **fields: Any) -> Retrain:
    return Retrain(id=id_, model="m", at=NOW, **fields)


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
    first = store.request_retrain(asked("a", reason="one"))
    second = store.request_retrain(asked("b", reason="two"))
    assert second == first
    store.change_retrain("a", failed)
    assert store.retrain("a").error == "boom"
    assert store.request_retrain(asked("b")).id == "b"
    assert [r.id for r in store.active_retrains()] == ["b"]


def test_a_retrain_comes_back_as_it_was(store: Store) -> None:
    wanted = asked("a", reason="one", champion=1, change_at=NOW, recipes=("x",), trigger="alert")
    assert store.request_retrain(wanted) == wanted
    full = replace(
        wanted.after(RetrainEvent.START),
        started_at=NOW,
        progress=Stage("train", 0.5, "half"),
        data=PinnedData(3, 4, NOW),
        reasons=("none",),
        result={"rows": 3},
        metrics={"accuracy": 0.5},
    )
    assert store.change_retrain("a", lambda _: full) == replace(full, revision=2)
    assert store.retrain("a") == replace(full, revision=2)


def test_a_cancelled_retrain_does_not_run_again(store: Store) -> None:
    store.request_retrain(asked("a"))
    cancelled = store.change_retrain("a", lambda r: r.after(RetrainEvent.CANCEL))
    with pytest.raises(Conflict, match="cancelled"):
        store.change_retrain("a", lambda r: r.after(RetrainEvent.START))
    assert store.retrain("a") == cancelled


def test_a_closed_alert_is_not_acknowledged(store: Store) -> None:
    store.raise_alert(ALERT)
    closed = store.change_alert("a", lambda alert: alert.after(AlertEvent.CLOSE))
    with pytest.raises(Conflict, match="closed"):
        store.change_alert("a", lambda alert: alert.after(AlertEvent.ACKNOWLEDGE))
    assert store.alerts() == [closed] == [replace(ALERT, state=AlertState.CLOSED, revision=2)]


def test_an_alert_raised_twice_is_one(store: Store) -> None:
    store.raise_alert(ALERT)
    store.raise_alert(replace(ALERT, message="again"))
    assert store.alerts("m") == [ALERT]


def test_an_unknown_record_is_named(store: Store) -> None:
    with pytest.raises(NotFound, match="retrain 'x'"):
        store.change_retrain("x", failed)
    with pytest.raises(NotFound, match="alert 'x'"):
        store.change_alert("x", lambda alert: alert)


def test_only_one_rollout_of_a_model_is_active(store: Store) -> None:
    rollout = store.request_rollout("a", SERVED, "m", NOW, "because")
    assert store.request_rollout("a", SERVED, "m", NOW, "because")["id"] == "a"
    with pytest.raises(Conflict):
        store.request_rollout("b", SERVED, "m", NOW, "because")
    saved = store.save_rollout("a", rollout["revision"], "rolled_back", BODY, {"event": "harm"})
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
    entry = {"served": 5, "acked": 5, "spooled": 0, "dropped": {}}
    store.put_ledgers("r", {("m", 1): entry, ("other", 2): entry})
    assert [store.ledger(model)[0]["acked"] for model in ("m", "other")] == [5, 5]


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
    first = store.request_retrain(asked("a", reason="one"))
    assert store.request_retrain(asked("a", reason="two")) == first
    ended = store.change_retrain("a", failed)
    assert store.request_retrain(asked("a")) == ended


def test_the_same_rollout_asked_for_after_its_end_stays_ended(store: Store) -> None:
    store.request_rollout("a", SERVED, "m", NOW, "")
    store.save_rollout("a", 1, "promoted", {})
    assert store.request_rollout("a", SERVED, "m", NOW, "")["state"] == "promoted"


def test_a_finding_written_twice_is_kept_once(store: Store) -> None:
    for _ in range(2):
        store.add_decision(DECISION)
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
        return {store.request_retrain(asked(f"{number}-{n}")).id for n in range(10)}

    assert len(set.union(*at_once(another, ask))) == 1
    assert len(another().retrains()) == 1


def test_retrains_that_end_while_others_ask_never_overlap(another: Open) -> None:
    def ask_and_end(store: Store, number: int) -> None:
        for n in range(5):
            with suppress(Conflict):  # another one ended it
                store.change_retrain(store.request_retrain(asked(f"{number}-{n}")).id, failed)
            assert len(store.active_retrains()) <= 1

    at_once(another, ask_and_end)
    assert {retrain.state for retrain in another().retrains()} == {"failed"}


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
                store.save_rollout("a", revision, "running", BODY, {"by": number})
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
    another().request_retrain(asked("a"))
    at_once(another, lambda store, number: report("a", store, number))
    assert Counter(another().retrain("a").reasons) == {"0": 10, "1": 10, "2": 10, "3": 10}


def test_findings_that_several_attach_to_an_alert_are_all_there(another: Open) -> None:
    another().raise_alert(ALERT)
    at_once(another, lambda store, n: store.change_alert("a", lambda a: a.attach([str(n)])))
    (alert,) = another().alerts()
    assert set(alert.findings) == {"f", "0", "1", "2", "3"}


def test_an_operator_that_cancels_wins_over_the_process_that_reports(another: Open) -> None:
    another().request_retrain(asked("a"))

    def write(store: Store, number: int) -> None:
        if number == 0:
            store.change_retrain("a", lambda r: r.after(RetrainEvent.CANCEL))
        else:
            report("a", store, number)

    at_once(another, write)
    assert another().retrain("a").state == "cancelled"


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
        ids = set(pool.map(ask_and_report, [url] * 2, range(2)))
    (retrain,) = store.retrains()
    assert ids == {retrain.id}
    assert Counter(retrain.reasons) == {"0": 10, "1": 10}


def ask_and_report(url: str, number: int) -> str:
    with closing(open_store(url)) as store:
        retrain_id = store.request_retrain(asked(str(number))).id
        report(retrain_id, store, number)
    return retrain_id


def report(retrain_id: str, store: Store, number: int) -> None:
    """Add to what a retrain says, ten times."""
    for _ in range(10):
        store.change_retrain(retrain_id, lambda r: replace(r, reasons=(*r.reasons, str(number))))


def failed(retrain: Retrain) -> Retrain:
    running = retrain.after(RetrainEvent.START)
    return replace(running.after(RetrainEvent.FAIL), error="boom")


def test_two_machines_may_have_replicas_with_one_pid(store: Store) -> None:
    for node, held in (("a", 1), ("b", 2), ("", 3)):
        models = {"m": HeldVersions(revision=held)}
        store.put_replica_report(ReplicaReport(pid=7, node=node, models=models))
    store.drop_replica_report("a", 7)
    found = [store.replica_report(node, 7) for node in ("a", "b", "")]
    assert [r and r.models["m"].revision for r in found] == [None, 2, 3]
