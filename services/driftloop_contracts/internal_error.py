"""Unexpected errors. Clients do not see their text, only an id with which it can be found in the
log."""

from uuid import uuid4

from driftloop_contracts.errors import DriftloopError


class InternalError(DriftloopError):
    """Something broke here. The log has an event with the `error_id`. log: what people call it."""

    def __init__(self, log: str = "the log", error_id: str | None = None) -> None:
        self.error_id = error_id or uuid4().hex[:12]
        self.log = log
        super().__init__(f"internal error {self.error_id}: {log} has its cause under this id")

    def __reduce__(self) -> tuple[object, ...]:
        """Replicas pass errors on to one another: the id stays."""
        return InternalError, (self.log, self.error_id)
