"""Durations as people read them."""


def in_words(seconds: float) -> str:
    """A duration in its largest unit: `45 s`, `3 minutes`, `26 hours`, `4 days`."""
    for unit, size in (("days", 86_400), ("hours", 3_600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
