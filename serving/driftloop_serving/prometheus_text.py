"""The replicas' counts in Prometheus' text format."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from driftloop_serving.meter import BOUNDS_S, Counts
from driftloop_serving.meter_files import ReplicaCounts

LABELS = ("replica", "model", "version", "arm")
BOUNDS = (*map(str, BOUNDS_S), "+Inf")

COUNTERS = {
    "requests": ("driftloop_requests", "Requests that were answered."),
    "rows": ("driftloop_rows", "Rows that were answered."),
    "runs": ("driftloop_runs", "Runs of a graph: requests share them under load."),
    "queue_s": ("driftloop_queue_seconds", "Time that requests waited for their run."),
    "input_s": ("driftloop_input_seconds", "Time spent on reading requests."),
    "infer_s": ("driftloop_infer_seconds", "Time spent in graphs."),
    "output_s": ("driftloop_output_seconds", "Time spent on writing answers."),
}


def render(replicas: Sequence[ReplicaCounts], accept: str = "") -> tuple[bytes, str]:
    """The text and its content type; `accept`: the header, by which a scraper asks for OpenMetrics."""
    registry = CollectorRegistry()
    registry.register(_Replicas(replicas))
    encode, content_type = choose_encoder(accept)
    return encode(registry), content_type


class _Replicas(Collector):
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
        yield _latency(answered)
        failures = CounterMetricFamily(
            "driftloop_request_failures", "Requests that got an error.", labels=(*LABELS, "reason")
        )
        for labels, counts in rows:
            for reason, number in counts.failures.items():
                failures.add_metric((*labels, reason), number)
        yield failures
        yield from _load(self._replicas)
        yield from _capture(self._replicas)


def _latency(rows: Iterable[tuple[tuple[str, ...], Counts]]) -> Metric:
    family = HistogramMetricFamily(
        "driftloop_request_seconds", "From a request's last byte to its answer.", labels=LABELS
    )
    for labels, counts in rows:
        buckets = list(zip(BOUNDS, map(float, accumulate(counts.buckets)), strict=True))
        family.add_metric(labels, buckets, counts.latency_s)
    return family


def _load(replicas: Iterable[ReplicaCounts]) -> Iterator[Metric]:
    waiting = GaugeMetricFamily(
        "driftloop_requests_in_flight", "Requests under way.", labels=("replica",)
    )
    busy = CounterMetricFamily(
        "driftloop_busy_seconds",
        "Time that the event loop worked for requests.",
        labels=("replica",),
    )
    for found in replicas:
        waiting.add_metric((found.replica,), found.load.in_flight)
        busy.add_metric((found.replica,), found.load.busy_s)
    yield waiting
    yield busy


def _capture(replicas: Iterable[ReplicaCounts]) -> Iterator[Metric]:
    labels = ("replica", "model", "version")
    served = CounterMetricFamily(
        "driftloop_capture_rows", "Rows that were to be kept in the spool.", labels=labels
    )
    dropped = CounterMetricFamily(
        "driftloop_capture_dropped_rows", "Rows that could not be kept.", labels=(*labels, "reason")
    )
    for found in replicas:
        for key, entry in found.capture.items():
            model, _, version = key.rpartition("/")
            place = (found.replica, model or key, version if model else "")
            served.add_metric(place, entry["served"])
            for reason, rows in entry["dropped"].items():
                dropped.add_metric((*place, reason), rows)
    yield served
    yield dropped
