"""Errors named after what the caller should do about them.

`str(error)` is always safe to show to a client: it mentions the client's input, never our
internals.
"""

from collections.abc import Iterable
from reprlib import Repr

LISTED = 32
_repr = Repr()
_repr.maxlevel = 2


def shown(value: object) -> str:
    """Represent a client's value for an error message, shortened however large and deep it is."""
    return _repr.repr(value)[:100]


def listed(names: Iterable[object]) -> str:
    """List names for an error message: all if they are few, otherwise the first and the number of
    others."""
    known = [str(name) for name in names]
    more = len(known) - LISTED
    return ", ".join(known) if more <= 0 else f"{', '.join(known[:LISTED])} and {more:,} more"


class DriftloopError(Exception):
    """Base of all errors that driftloop raises deliberately."""


class Rejected(DriftloopError):
    """The input is invalid. Correct it: sending it again unchanged cannot help."""


class NotFound(Rejected):
    """The named thing does not exist. Check the name."""


class TooLarge(Rejected):
    """The input is over a limit. Send less at once."""


class Forbidden(Rejected):
    """The caller is not allowed to call this: a page of another site, or an unknown host name."""


class UnsupportedMediaType(Rejected):
    """The body's type or encoding is not supported. Send a supported one."""


class Conflict(Rejected):
    """The current state does not allow this. Read the state, then decide."""


class RetryLater(DriftloopError):
    """The input is valid. Send it again after `retry_after_s` seconds (`Retry-After`)."""

    def __init__(self, message: str, retry_after_s: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class Unavailable(DriftloopError):
    """This machine or cluster lacks something. An operator must act."""
