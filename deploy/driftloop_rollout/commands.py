"""Operators' commands for rollouts. A command is saved; the controller executes it on its next
tick."""

from collections.abc import Callable
from datetime import datetime
from uuid import uuid4

from driftloop_contracts.errors import Conflict, Rejected
from driftloop_registry.port import Registry
from driftloop_rollout.machine import OPERATOR_EVENTS, TRANSITIONS, Event, Rollout, State, apply
from driftloop_store.store import Record, Store


def request(
    store: Store,
    open_registry: Callable[[], Registry],
    model: str,
    version: int,
    reason: str,
    now: datetime,
) -> Record:
    """Request a rollout of a registered version of a deployed model.

    Raises NotFound, or Conflict for the champion or while another rollout of the model is active.
    """
    if version == store.require_deployment(model).split.stable:
        raise Conflict(f"version {version} is already the champion")
    candidate = open_registry().version(model, version).served
    return store.request_rollout(str(uuid4()), candidate, model, now, reason)


def command(
    store: Store,
    rollout_id: str,
    event: str,
    actor: str,
    reason: str,
    now: datetime,
    check: Callable[[Rollout], None] = lambda _: None,
) -> Record:
    """Approve, pause, resume, promote or abort a rollout. `check` may raise before anything is
    changed.

    Raises Rejected for another event, NotFound, or Conflict if the state does not allow it, or
    nothing waits for an approval.
    """
    if event not in OPERATOR_EVENTS:
        raise Rejected(f"unknown command {event!r}: use {', '.join(OPERATOR_EVENTS)}")
    while True:
        rollout = Rollout.from_record(store.rollout(rollout_id))
        check(rollout)
        after = apply(rollout, Event(event), now, reason or f"{event} by {actor}", actor=actor)
        if event == Event.APPROVE and not rollout.awaits:
            raise Conflict(f"rollout {rollout.id} does not wait for an approval: {rollout.reason}")
        try:
            return save(store, after, rollout)
        except Conflict:  # the controller was faster: check whether the command still applies
            continue


def retry(store: Store, rollout_id: str, actor: str, reason: str, now: datetime) -> Record:
    """Request the rollout of the same candidate again after one that did not promote it.

    Raises NotFound, or Conflict if that one is active or promoted it, the candidate is the
    champion, or another rollout of the model is active.
    """
    rollout = Rollout.from_record(store.rollout(rollout_id))
    if rollout.state not in (State.ABORTED, State.ROLLED_BACK):
        raise Conflict(f"rollout {rollout.id} is {rollout.state}: there is nothing to try again")
    if rollout.candidate.version == store.require_deployment(rollout.model).split.stable:
        raise Conflict(f"version {rollout.candidate.version} is already the champion")
    why = reason or f"tried again by {actor}"
    return store.request_rollout(str(uuid4()), rollout.candidate, rollout.model, now, why)


def end(store: Store, model: str, reason: str, now: datetime) -> None:
    """End the active rollout, if any, of a model that is no longer deployed, without waiting for
    replicas."""
    for record in store.active_rollouts():
        while record["model"] == model:
            try:
                rollout = Rollout.from_record(store.rollout(record["id"]))
                while not rollout.finished:
                    abortable = (rollout.state, Event.ABORT) in TRANSITIONS
                    event = Event.ABORT if abortable else Event.SETTLE
                    after = apply(rollout, event, now, reason, actor="operator")
                    rollout = Rollout.from_record(save(store, after, rollout))
                break
            except Conflict:  # the controller was faster: start from its result
                continue


def save(store: Store, after: Rollout, before: Rollout) -> Record:
    """Write a rollout if the revision that was read is still current, with the transition in
    between, if any.

    Raises Conflict, without writing, if the rollout was changed meanwhile.
    """
    event = after.history[-1].to_dict() if len(after.history) > len(before.history) else None
    return store.save_rollout(after.id, before.revision, after.state, after.to_body(), event)
