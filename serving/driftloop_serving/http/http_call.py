"""An infer request on an HTTP connection, used in place of uvicorn's request cycle."""

from collections.abc import Callable

from driftloop_contracts.errors import DriftloopError
from driftloop_contracts.ids import PredictionId
from driftloop_serving.http.infer_routes import Route
from driftloop_serving.inference.infer_call import InferAnswer, InferCall


class _NoEvent:
    """Replaces the asyncio.Event of uvicorn's request cycle, which nothing waits for here."""

    @staticmethod
    def set() -> None: ...


class HttpCall(InferCall):
    """An infer request that the parser fills in as it arrives. `problem`: why it is refused."""

    message_event = _NoEvent
    body: bytes | bytearray = b""
    problem: DriftloopError | None = None
    response_complete = False
    given_id: PredictionId | None = None
    json_length: int | None = None
    routing_key: bytes | None = None

    def __init__(
        self,
        route: Route,
        done: Callable[[InferAnswer | DriftloopError], None],
        keep_alive: bool,
        timeout_s: float,
    ) -> None:
        self.codec, self.model, self.pinned = route
        self.done = done
        self.keep_alive = keep_alive
        self.timeout_s = timeout_s

    @property
    def disconnected(self) -> bool:
        return self.cancelled

    @disconnected.setter
    def disconnected(self, value: bool) -> None:
        self.cancelled = value
