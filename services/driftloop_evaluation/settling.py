"""When the rows of the lake are complete up to a time, so that each is judged once."""

from datetime import datetime, timedelta

SETTLE = timedelta(seconds=1)
"""Rows become visible out of order by less than this: each replica ships its own."""
SILENCE = timedelta(seconds=30)
"""After this long without a newer row, traffic has stopped and the newest rows are complete.

Longer than the shipper or the archiver is away when it is restarted (10 s would not be): rows of
one time that it still holds would come behind the cursor, and be judged never. It costs only the
last second of rows before a pause, which waits this long."""
INSTANT = timedelta(microseconds=1)
"""Times of rows are whole multiples of it."""


def settled_until(newest: datetime, now: datetime) -> datetime:
    """The time before which all rows are in the lake, given the time of the newest that is."""
    return newest + INSTANT if now - newest > SILENCE else newest - SETTLE
