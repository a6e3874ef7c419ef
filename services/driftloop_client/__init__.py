"""The client of a driftloop stack: predictions, labels and control, in one line each.

from driftloop_client import Client
with Client("http://localhost:8000") as client:
    answer = client.predict("loans", {"income": [2400.0], "city": ["Ulm"]})
    client.feedback(answer.labelled([1]))

Errors say what to do: `Rejected` (correct the input), `RetryLater` (it was tried again for as long
as `patience_s`), `Unavailable` (an operator must act).
"""

from driftloop_client.client import AsyncClient, Client
from driftloop_client.events import (
    IncidentEvent,
    LoopEvent,
    PromotionEvent,
    RetrainEvent,
    RolloutEvent,
)
from driftloop_client.prediction import Prediction
from driftloop_contracts.errors import (
    Conflict,
    DriftloopError,
    Forbidden,
    NotFound,
    Rejected,
    RetryLater,
    TooLarge,
    Unavailable,
)

__all__ = [
    "AsyncClient",
    "Client",
    "Conflict",
    "DriftloopError",
    "Forbidden",
    "IncidentEvent",
    "LoopEvent",
    "NotFound",
    "Prediction",
    "PromotionEvent",
    "Rejected",
    "RetrainEvent",
    "RetryLater",
    "RolloutEvent",
    "TooLarge",
    "Unavailable",
]
