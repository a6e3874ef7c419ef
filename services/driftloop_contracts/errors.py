"""Errors named after what the caller should do about them.

`str(error)` is always safe to show to a client: it names their input, never our internals.
"""

from collections.abc import Iterable
from reprlib import Repr

LISTED = 32
_repr = Repr()
_repr.maxlevel = 2


def shown(value: object) -> str:
    """What a client sent, short enough for an error's sentence however large and deep it is."""
    return _repr.repr(value)[:100]


def listed(names: Iterable[object]) -> str:
    """Names for an error's sentence: all if they are few, else the first and how many there are."""
    known = [str(name) for name in names]
    more = len(known) - LISTED
    return ", ".join(known) if more <= 0 else f"{', '.join(known[:LISTED])} and {more:,} more"


class DriftloopError(Exception):
    """Base of every error that driftloop raises on purpose."""


class Rejected(DriftloopError):
    """The input is wrong. Correct it: sending it again unchanged cannot help."""


class NotFound(Rejected):
    """The named thing does not exist. Check the name."""


class TooLarge(Rejected):
    """The input is over a limit. Send less at once."""


class Forbidden(Rejected):
    """The caller may not ask this here: a page of another site, or a host name that is not ours."""


class UnsupportedMediaType(Rejected):
    """The body, or what its headers say of it, is of another kind. Send one that is named."""


class Conflict(Rejected):
    """The state of the thing does not allow this. Read its state, then decide."""


class RetryLater(DriftloopError):
    """The input is right. Send it again after `retry_after_s` seconds (`Retry-After`)."""

    def __init__(self, message: str, retry_after_s: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class Unavailable(DriftloopError):
    """This machine or cluster lacks something. An operator must act."""
