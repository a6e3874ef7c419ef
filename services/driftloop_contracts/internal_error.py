"""Unexpected errors. Clients do not see their text, only an id with which it can be found in the
log."""

from uuid import uuid4

from driftloop_contracts.errors import DriftloopError


class InternalError(DriftloopError):
    """Something broke here. The log has an event with the `error_id`."""

    def __init__(self) -> None:
        self.error_id = uuid4().hex[:12]
        super().__init__(f"internal error {self.error_id}: the log has its cause under this id")

    def __reduce__(self) -> tuple[object, ...]:
        """Replicas pass errors on to one another: the id stays."""
        return _with_id, (self.error_id, str(self))


def _with_id(error_id: str, sentence: str) -> InternalError:
    error = InternalError()
    error.error_id, error.args = error_id, (sentence,)
    return error
