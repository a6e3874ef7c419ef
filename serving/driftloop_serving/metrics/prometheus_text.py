"""The counts of the replicas in Prometheus' text format.

A version of a model has at most MOST_SERIES in each replica, unless it is a language model's: so
histograms show some of the buckets that are counted, and what the parts of a request took is
summed over models (Triton's statistics have it for each).
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate
from math import inf

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from driftloop_serving.metrics.meter import BOUNDS_S, TOKEN_BOUNDS_S, Counts
from driftloop_serving.metrics.meter_files import ReplicaCounts

LABELS = ("replica", "model", "version", "arm")
MOST_SERIES = 20
SHOWN_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.25, 1.0)
SHOWN_LANGUAGE_S = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
SHOWN_FIRST_TOKEN_S = (0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
SHOWN_TOKEN_S = (0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0)
"""Upper bounds of the buckets that are shown."""
TOKENS = {
    "prompt_tokens": ("driftloop_prompt_tokens", "Tokens in the prompts of language models."),
    "completion_tokens": (
        "driftloop_completion_tokens", "Tokens that language models generated.",
    ),
}  # fmt: skip
TOKEN_TIMES = {
    "first_token": (
        "driftloop_first_token_seconds",
        "Time from a request to the first token of its answer.",
        SHOWN_FIRST_TOKEN_S,
    ),
    "token": (
        "driftloop_token_seconds", "Mean time between the tokens of an answer.", SHOWN_TOKEN_S,
    ),
}  # fmt: skip

COUNTERS = {
    "requests": ("driftloop_requests", "Answered requests."),
    "rows": ("driftloop_rows", "Answered rows."),
    "runs": ("driftloop_runs", "Runs of graphs; requests may share a run."),
}
PHASES = {
    "queue_s": ("driftloop_queue_seconds", "Time that requests waited for their run."),
    "input_s": ("driftloop_input_seconds", "Time spent on decoding requests."),
    "infer_s": ("driftloop_infer_seconds", "Time spent on running graphs."),
    "output_s": ("driftloop_output_seconds", "Time spent on recording and encoding answers."),
}


def render(replicas: Sequence[ReplicaCounts], accept: str = "") -> tuple[bytes, str]:
    """Return the text and its content type. `accept`: the Accept header, with which a scraper may
    request OpenMetrics."""
    registry = CollectorRegistry()
    registry.register(ReplicaCollector(replicas))
    encode, content_type = choose_encoder(accept)
    return encode(registry), content_type


class ReplicaCollector(Collector):
    def __init__(self, replicas: Sequence[ReplicaCounts]) -> None:
        self._replicas = replicas

    def collect(self) -> Iterator[Metric]:
        rows = [
            ((r.replica, model, str(version) if version else "", arm), counts)
            for r in self._replicas
            for (model, version, arm), counts in r.counts.items()
        ]
        answered = [(labels, counts) for labels, counts in rows if counts.requests]
        for field, (name, text) in COUNTERS.items():
            family = CounterMetricFamily(name, text, labels=LABELS)
            for labels, counts in answered:
                family.add_metric(labels, getattr(counts, field))
            yield family
        yield from _phases(self._replicas)
        yield _latency(answered)
        yield from _tokens(
            [(labels, counts) for labels, counts in answered if counts.prompt_tokens]
        )
        failures = CounterMetricFamily(
            "driftloop_request_failures",
            "Requests answered with an error.",
            labels=(*LABELS, "reason"),
        )
        for labels, counts in rows:
            for reason, number in counts.failures.items():
                failures.add_metric((*labels, reason), number)
        yield failures
        yield from _load(self._replicas)
        yield from _capture(self._replicas)


def _phases(replicas: Iterable[ReplicaCounts]) -> Iterator[Metric]:
    for field, (name, text) in PHASES.items():
        family = CounterMetricFamily(name, text, labels=("replica",))
        for found in replicas:
            total = sum(getattr(counts, field) for counts in found.counts.values())
            family.add_metric((found.replica,), total)
        yield family


def _shown(
    buckets: Sequence[int], bounds_s: Sequence[float], shown_s: Sequence[float]
) -> list[tuple[str, float]]:
    """Some of the bounds, with the number of values up to each."""
    sums = dict(zip((*bounds_s, inf), accumulate(buckets), strict=True))
    return [*((str(bound), float(sums[bound])) for bound in shown_s), ("+Inf", float(sums[inf]))]


def _latency(rows: Iterable[tuple[tuple[str, ...], Counts]]) -> Metric:
    family = HistogramMetricFamily(
        "driftloop_request_seconds",
        "Time from the last byte of a request to its answer.",
        labels=LABELS,
    )
    for labels, counts in rows:
        shown_s = SHOWN_LANGUAGE_S if counts.prompt_tokens else SHOWN_S
        family.add_metric(labels, _shown(counts.buckets, BOUNDS_S, shown_s), counts.latency_s)
    return family


def _tokens(rows: Sequence[tuple[tuple[str, ...], Counts]]) -> Iterator[Metric]:
    for field, (name, text) in TOKENS.items():
        family = CounterMetricFamily(name, text, labels=LABELS)
        for labels, counts in rows:
            family.add_metric(labels, getattr(counts, field))
        yield family
    for field, (name, text, shown_s) in TOKEN_TIMES.items():
        times = HistogramMetricFamily(name, text, labels=LABELS)
        for labels, counts in rows:
            buckets = _shown(getattr(counts, f"{field}_buckets"), TOKEN_BOUNDS_S, shown_s)
            times.add_metric(labels, buckets, getattr(counts, f"{field}_s"))
        yield times


def _load(replicas: Iterable[ReplicaCounts]) -> Iterator[Metric]:
    waiting = GaugeMetricFamily(
        "driftloop_requests_in_flight", "Requests in progress.", labels=("replica",)
    )
    busy = CounterMetricFamily(
        "driftloop_busy_seconds",
        "Time that the event loop worked on requests.",
        labels=("replica",),
    )
    for found in replicas:
        waiting.add_metric((found.replica,), found.load.in_flight)
        busy.add_metric((found.replica,), found.load.busy_s)
    yield waiting
    yield busy


def _capture(replicas: Iterable[ReplicaCounts]) -> Iterator[Metric]:
    """Yield the rows served = acked + spooled + dropped, for each replica and version; labels are
    counted under "labels"."""
    labels = ("replica", "model", "version")
    served = CounterMetricFamily(
        "driftloop_capture_rows", "Rows that were to be captured.", labels=labels
    )
    acked = CounterMetricFamily(
        "driftloop_capture_acked_rows", "Rows that Kafka has acknowledged.", labels=labels
    )
    spooled = GaugeMetricFamily(
        "driftloop_capture_spooled_rows", "Rows that wait to be sent to Kafka.", labels=labels
    )
    dropped = CounterMetricFamily(
        "driftloop_capture_dropped_rows", "Rows that were not captured.", labels=(*labels, "reason")
    )
    degraded = CounterMetricFamily(
        "driftloop_capture_degraded_rows",
        "Rows answered before they had the durability of capture.durability.",
        labels=(*labels, "reason"),
    )
    for found in replicas:
        for key, entry in found.capture.items():
            model, _, version = key.rpartition("/")
            place = (found.replica, model or key, version if model else "")
            served.add_metric(place, entry["served"])
            acked.add_metric(place, entry["acked"])
            spooled.add_metric(place, entry["spooled"])
            for family, by_reason in ((dropped, entry["dropped"]), (degraded, entry["degraded"])):
                for reason, rows in by_reason.items():
                    family.add_metric((*place, reason), rows)
    yield from (served, acked, spooled, dropped, degraded)
