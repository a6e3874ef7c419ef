"""Determines up to which time the rows of the lake are complete, so that each is judged once."""

from datetime import datetime, timedelta

SETTLE = timedelta(seconds=1)
"""Rows become visible out of order by less than this, because each replica ships its own."""
SILENCE = timedelta(seconds=30)
"""Without a newer row for this long, traffic has stopped and the newest rows are complete.

It must exceed the downtime of a restarting shipper or archiver (10 s would not): rows that it still
holds would arrive behind the cursor and never be judged. The only cost is that the last second of
rows before a pause waits this long.
"""
INSTANT = timedelta(microseconds=1)
"""The resolution of rows' times."""


def settled_until(newest: datetime, now: datetime) -> datetime:
    """Return the time before which all rows are in the lake, given the time of the newest row."""
    return newest + INSTANT if now - newest > SILENCE else newest - SETTLE
