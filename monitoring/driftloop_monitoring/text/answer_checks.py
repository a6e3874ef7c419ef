"""Compares the shares of empty and repetitive answers with the reference."""

from collections.abc import Iterator, Mapping

from driftloop_monitoring.statistics.columns import Column
from driftloop_monitoring.statistics.quality import Issue, risen
from driftloop_monitoring.text.descriptors import EMPTY, FLAGS, LOOPING

WHAT = {EMPTY: "empty", LOOPING: "repeating themselves"}


def useless_answers(
    reference: Mapping[str, Column], window: Mapping[str, Column], significance: float
) -> Iterator[Issue]:
    """Yield the shares that have risen. The columns are those of `described`; significance is
    family-wise."""
    for flag in FLAGS:
        if flag not in reference or flag not in window:
            continue
        old, new = reference[flag].present == "true", window[flag].present == "true"
        if not len(old) or not len(new):
            continue
        rise = risen(int(new.sum()), len(new), int(old.sum()), len(old), significance / len(FLAGS))
        if rise is not None:
            detail = (
                f"{new.mean():.1%} of the answers are {WHAT[flag]}, {old.mean():.1%} in "
                f"the reference"
            )
            yield Issue(flag, flag, rise.severity, rise.effect, rise.significance, detail)
