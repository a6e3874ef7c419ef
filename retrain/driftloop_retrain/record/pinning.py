"""Pins the versions of the lake that a retrain reads. They are written into its record before the
first read, so that it reads the same after a restart."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import TypeVar

from driftloop_contracts.clock import Clock
from driftloop_contracts.errors import DriftloopError, Rejected, RetryLater
from driftloop_contracts.retrain import PinnedData, Retrain
from driftloop_lake.port import LakeReader, Pin
from driftloop_store import Store

T = TypeVar("T")


def pinned(store: Store, lake: LakeReader, clock: Clock, retrain: Retrain) -> tuple[Pin, datetime]:
    """Return the versions, and the time up to which labels were received. Raises Rejected for an
    empty lake."""
    known = retrain.data
    if known is not None:
        return Pin(known.predictions, known.labels), known.as_of
    pin = lake.pin(retrain.model)
    if pin is None:
        raise Rejected(f"the lake has no prediction of {retrain.model!r} yet")
    as_of = clock()
    data = PinnedData(pin.predictions, pin.labels, as_of)
    store.change_retrain(retrain.id, partial(replace, data=data))
    return pin, as_of


def or_later(what: str, act: Callable[[], T]) -> T:
    """Call another service; raises RetryLater if it fails to answer."""
    try:
        return act()
    except DriftloopError:
        raise
    except Exception as error:  # connection errors of the vendors have no common base
        raise RetryLater(f"{what} cannot be used: {error!r}") from error


def source_of(model: str, pin: Pin, as_of: datetime) -> str:
    """Describe the data for people, so that it can be read again."""
    tables = f"predictions@{pin.predictions} labels@{pin.labels}"
    return f"lake {model} {tables} as of {as_of.isoformat()}"
