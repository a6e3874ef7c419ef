"""Why a call that fits its model is not answered with a prediction."""

from driftloop_contracts.errors import DriftloopError

BUSY = "too many requests are under way; try again"
LATE = "the request waited longer than its deadline allows; try again"


class ModelFailed(DriftloopError):
    """The graph raised an exception on an input that fits its signature (HTTP 500)."""


class ClientGone(DriftloopError):
    """The client disconnected before the run, so no answer is needed."""
