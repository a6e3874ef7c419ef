"""How much harm matters, and how labels are waited for."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Margins:
    """The margins of the metrics; see RolloutSettings."""

    quality: float
    errors: float
    latency: float
    latency_floor_s: float
    label_age_s: float | None
    """None: learned, see `label_delay`; 0: only the share of labelled rows decides."""
    label_coverage: float
    answers: float | None = None
    """The margin of malformed answers; None if they are not judged."""
    judge_latency: bool = True
    unequal_labels: bool = False
    """Whether arms with unequal shares of labels are compared, at equal shares."""
