"""The loop's records as spans: linked from the prediction to the rollout, each sent once."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from console_records import NOW, deploy, running_rollout, waited, window
from kept_spans import TRACE_ID, Kept

from driftloop_contracts.errors import RetryLater
from driftloop_contracts.retrain import Retrain, RetrainEvent
from driftloop_gateway.loop_traces import MOST_LINKS, window_span
from driftloop_gateway.trace_watch import TraceWatch
from driftloop_store import Store, open_store
from driftloop_telemetry import Span, Tracing
from driftloop_telemetry.span import linked_prediction, nanoseconds, record_context


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = open_store(f"sqlite:///{tmp_path / 'store.db'}")
    deploy(opened, "m", 1, 2)
    yield opened
    opened.close()


def traced(model: str, since: datetime, until: datetime, limit: int) -> list[tuple[str, str]]:
    assert since < until
    return [(TRACE_ID, f"{model}-prediction")]


def watch(store: Store, kept: Kept) -> TraceWatch:
    return TraceWatch(store, Tracing(kept), traced)


def close_the_loop(store: Store) -> None:
    """A window, the decision about it, its retrain, and the rollout of its candidate."""
    store.add_window(window("m", 1))
    decision = replace(
        waited("m"), decision_id="d", at=NOW, verdict="retrain",
        evidence={"change_at": (NOW - timedelta(hours=3)).isoformat()},
    )  # fmt: skip
    store.add_decision(decision)
    store.request_retrain(Retrain(id="r", model="m", at=NOW, decision_id="d", trigger="alert"))
    rollout = running_rollout(store, "m")
    store.change_retrain("r", lambda r: replace(r.after(RetrainEvent.START), started_at=NOW))
    store.change_retrain(
        "r",
        lambda r: replace(
            r.after(RetrainEvent.SUCCEED), version=2, result={"rollout": rollout.id},
            ended_at=NOW + timedelta(hours=1),
        ),
    )  # fmt: skip
    body = {**rollout.to_body(), "finished_at": (NOW + timedelta(hours=2)).isoformat()}
    store.save_rollout(rollout.id, store.rollout(rollout.id)["revision"], "promoted", body)


def by_kind(spans: list[Span]) -> dict[str, Span]:
    return {span.name.removeprefix("driftloop."): span for span in spans}


def test_the_loop_is_linked_from_the_prediction_to_the_rollout(store: Store) -> None:
    kept = Kept()
    traces = watch(store, kept)
    assert traces.look() == 0  # what was there before is not news
    close_the_loop(store)
    assert traces.look() == 4
    found = by_kind(kept.spans)
    links = {kind: [link.context for link in span.links] for kind, span in found.items()}
    assert links == {
        "window": [linked_prediction(TRACE_ID, "m-prediction")],
        "decision": [found["window"].context],
        "retrain": [found["decision"].context],
        "rollout": [found["retrain"].context],
    }
    assert found["window"].context == record_context("window", "m-w1")
    assert found["window"].attributes["driftloop.window.error"] == window("m", 1).mean_loss
    assert found["retrain"].ended_ns == nanoseconds(NOW + timedelta(hours=1))
    assert found["rollout"].attributes["driftloop.rollout.state"] == "promoted"
    assert {span.attributes["driftloop.model"] for span in kept.spans} == {"m"}


def test_each_record_is_sent_once_also_after_a_restart(store: Store) -> None:
    kept = Kept()
    watch(store, kept).look()
    close_the_loop(store)
    traces = watch(store, kept)
    assert traces.look() == 4
    assert traces.look() == 0
    store.add_window(window("m", 0))
    assert watch(store, kept).look() == 1
    assert len({span.context.span_id for span in kept.spans}) == len(kept.spans) == 5


def test_what_is_under_way_is_not_sent(store: Store) -> None:
    kept = Kept()
    traces = watch(store, kept)
    traces.look()
    running_rollout(store, "m")
    store.request_retrain(Retrain(id="r", model="m", at=NOW))
    assert traces.look() == 0


def test_a_window_whose_rows_cannot_be_read_has_no_links(store: Store) -> None:
    def away(*_: object) -> list[tuple[str, str]]:
        raise RetryLater("the lake is away")

    kept = Kept()
    traces = TraceWatch(store, Tracing(kept), away)
    traces.look()
    store.add_window(window("m", 0))
    assert traces.look() == 1
    assert kept.spans[0].links == ()


def test_links_are_bounded() -> None:
    pairs = [(TRACE_ID, f"p{n}") for n in range(1_000)]
    assert len(window_span({**window("m", 1).to_dict()}, pairs).links) == MOST_LINKS
