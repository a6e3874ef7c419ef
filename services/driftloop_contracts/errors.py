"""Errors named after what the caller should do about them.

`str(error)` is always safe to show to a client: it names their input, never our internals.
"""

from reprlib import Repr

_repr = Repr()
_repr.maxlevel = 2


def shown(value: object) -> str:
    """What a client sent, short enough for an error's sentence however large and deep it is."""
    return _repr.repr(value)[:100]


class DriftloopError(Exception):
    """Base of every error that driftloop raises on purpose."""


class Rejected(DriftloopError):
    """The input is wrong; sending it again unchanged cannot help (HTTP 400)."""


class NotFound(Rejected):
    """The named thing does not exist (HTTP 404)."""


class TooLarge(Rejected):
    """The input is over a limit (HTTP 413)."""


class Conflict(Rejected):
    """The thing is not in a state that allows this (HTTP 409)."""


class RetryLater(DriftloopError):
    """Nothing is wrong with the input; try again after `retry_after_s` seconds (HTTP 503)."""

    def __init__(self, message: str, retry_after_s: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class Unavailable(DriftloopError):
    """Something this machine or cluster needs is missing; an operator must act."""
