"""The counts of the replicas in Prometheus' text format.

A model has at most MOST_SERIES in each replica, during a canary too, whatever its kind. So of
versions and arms only requests are counted, and of those that answered last; histograms show some
of the buckets that are counted; and reasons of failures, and what the parts of a request took, are
summed over models (Triton's statistics have the parts for each).
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate
from math import inf

from prometheus_client import CollectorRegistry
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    SummaryMetricFamily,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from driftloop_serving.metrics.meter import BOUNDS_S, TOKEN_BOUNDS_S, Counts
from driftloop_serving.metrics.meter_files import ReplicaCounts

OF_MODEL = ("replica", "model")
MOST_SERIES = 20
SHOWN_ARMS = 3
"""Pairs of version and arm, in the order of their last answer: champion, challenger, pinned."""
SHOWN_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.25, 1.0)
SHOWN_FIRST_TOKEN_S = (0.025, 0.1, 0.25, 0.5, 1.0, 5.0)
"""Upper bounds of the buckets that are shown."""
COUNTERS = {
    "rows": ("driftloop_rows", "Answered rows, except of language models."),
    "runs": ("driftloop_runs", "Runs of graphs; requests may share a run."),
}
TOKENS = {
    "prompt_tokens": ("driftloop_prompt_tokens", "Tokens in the prompts of language models."),
    "completion_tokens": (
        "driftloop_completion_tokens", "Tokens that language models generated.",
    ),
}  # fmt: skip
PHASES = {
    "queue_s": ("driftloop_queue_seconds", "Time that requests waited for their run."),
    "input_s": ("driftloop_input_seconds", "Time spent on decoding requests."),
    "infer_s": ("driftloop_infer_seconds", "Time spent on running graphs."),
    "output_s": ("driftloop_output_seconds", "Time spent on recording and encoding answers."),
}

Place = tuple[str, str]
"""A replica and a model."""


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
        yield _requests(self._replicas)
        sums = [(found.replica, _by_model(found)) for found in self._replicas]
        asked = [((replica, model), counts) for replica, by in sums for model, counts in by.items()]
        answered = [(place, counts) for place, counts in asked if counts.requests]
        language = [(place, counts) for place, counts in answered if counts.prompt_tokens]
        others = [(place, counts) for place, counts in answered if not counts.prompt_tokens]
        yield from _counters(COUNTERS, others)
        yield from _phases(self._replicas)
        yield _latency(others)
        yield from _counters(TOKENS, language)
        yield from _token_times(language)
        yield from _failures(asked)
        yield from _load(self._replicas)
        yield from _graphs(self._replicas)
        yield from _capture(self._replicas)


def _by_model(replica: ReplicaCounts) -> dict[str, Counts]:
    """The sums over versions and arms; "": requests that failed before a model was known."""
    sums: dict[str, Counts] = {}
    for (model, _, _), counts in replica.counts.items():
        sums.setdefault(model, Counts()).add(counts)
    return sums


def _requests(replicas: Iterable[ReplicaCounts]) -> Metric:
    family = CounterMetricFamily(
        "driftloop_requests",
        f"Answered requests, of the {SHOWN_ARMS} pairs of version and arm that answered last.",
        labels=(*OF_MODEL, "version", "arm"),
    )
    for found in replicas:
        shown: Counter[str] = Counter()
        newest = sorted(found.counts.items(), key=lambda item: -item[1].last_at)
        for (model, version, arm), counts in newest:
            if counts.requests and shown[model] < SHOWN_ARMS:
                shown[model] += 1
                family.add_metric((found.replica, model, str(version), arm), counts.requests)
    return family


def _counters(
    shown: dict[str, tuple[str, str]], rows: Sequence[tuple[Place, Counts]]
) -> Iterator[Metric]:
    for field, (name, text) in shown.items():
        family = CounterMetricFamily(name, text, labels=OF_MODEL)
        for place, counts in rows:
            family.add_metric(place, getattr(counts, field))
        yield family


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


def _latency(rows: Iterable[tuple[Place, Counts]]) -> Metric:
    family = HistogramMetricFamily(
        "driftloop_request_seconds",
        "Time from the last byte of a request to its answer, except of language models.",
        labels=OF_MODEL,
    )
    for place, counts in rows:
        family.add_metric(place, _shown(counts.buckets, BOUNDS_S, SHOWN_S), counts.latency_s)
    return family


def _token_times(rows: Sequence[tuple[Place, Counts]]) -> Iterator[Metric]:
    first = HistogramMetricFamily(
        "driftloop_first_token_seconds",
        "Time from a request to the first token of its answer.",
        labels=OF_MODEL,
    )
    between = SummaryMetricFamily(
        "driftloop_token_seconds", "Mean time between the tokens of an answer.", labels=OF_MODEL
    )
    for place, counts in rows:
        buckets = _shown(counts.first_token_buckets, TOKEN_BOUNDS_S, SHOWN_FIRST_TOKEN_S)
        first.add_metric(place, buckets, counts.first_token_s)
        between.add_metric(place, sum(counts.token_buckets), counts.token_s)
    yield from (first, between)


def _failures(rows: Sequence[tuple[Place, Counts]]) -> Iterator[Metric]:
    of_model = CounterMetricFamily(
        "driftloop_model_failures",
        'Requests answered with an error; model "": before a model was known.',
        labels=OF_MODEL,
    )
    by_reason = CounterMetricFamily(
        "driftloop_request_failures",
        "Requests answered with an error, of all models.",
        labels=("replica", "reason"),
    )
    reasons: dict[str, Counter[str]] = {}
    for (replica, model), counts in rows:
        of_model.add_metric((replica, model), counts.failures.total())
        reasons.setdefault(replica, Counter()).update(counts.failures)
    for replica, found in reasons.items():
        for reason, number in found.items():
            by_reason.add_metric((replica, reason), number)
    yield from (of_model, by_reason)


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


def _graphs(replicas: Iterable[ReplicaCounts]) -> Iterator[Metric]:
    """Yield what is in memory of replicas that have `serving.graph_memory_mb`."""
    loaded = GaugeMetricFamily(
        "driftloop_graphs", "Graphs of model versions that are in memory, or have left it.",
        labels=("replica", "state"),
    )  # fmt: skip
    taken = GaugeMetricFamily(
        "driftloop_graph_memory_bytes", "Memory of the graphs, as measured.", labels=("replica",)
    )
    loads = CounterMetricFamily(
        "driftloop_graph_loads", "Graphs that were loaded.", labels=("replica",)
    )
    for found in replicas:
        graphs = found.load.graphs
        if graphs is not None:
            loaded.add_metric((found.replica, "loaded"), graphs.awake)
            loaded.add_metric((found.replica, "asleep"), graphs.asleep)
            taken.add_metric((found.replica,), graphs.bytes)
            loads.add_metric((found.replica,), graphs.loads)
    yield from (loaded, taken, loads)


def _capture(replicas: Iterable[ReplicaCounts]) -> Iterator[Metric]:
    """Yield the rows served = acked + spooled + dropped, for each replica and model, dropped with
    the reasons of all models; labels are counted under the model "labels"."""
    served = CounterMetricFamily(
        "driftloop_capture_rows", "Rows that were to be captured.", labels=OF_MODEL
    )
    acked = CounterMetricFamily(
        "driftloop_capture_acked_rows", "Rows that Kafka has acknowledged.", labels=OF_MODEL
    )
    spooled = GaugeMetricFamily(
        "driftloop_capture_spooled_rows", "Rows that wait to be sent to Kafka.", labels=OF_MODEL
    )
    dropped = CounterMetricFamily(
        "driftloop_capture_dropped_rows",
        "Rows that were not captured, of all models: of one, those that are neither acknowledged "
        "nor waiting.",
        labels=("replica", "reason"),
    )
    degraded = CounterMetricFamily(
        "driftloop_capture_degraded_rows",
        "Rows answered before they had the durability of capture.durability, of all models.",
        labels=("replica", "reason"),
    )
    for found in replicas:
        of_models: dict[str, Counter[str]] = {}
        for key, entry in found.capture.items():
            counts = of_models.setdefault(key.rpartition("/")[0] or key, Counter())
            counts.update({name: entry[name] for name in ("served", "acked", "spooled")})
        for model, counts in of_models.items():
            for name, family in (("served", served), ("acked", acked), ("spooled", spooled)):
                family.add_metric((found.replica, model), counts[name])
        for name, of_reason in (("dropped", dropped), ("degraded", degraded)):
            sums: Counter[str] = Counter()
            for entry in found.capture.values():
                sums.update(entry[name])
            for reason, rows in sums.items():
                of_reason.add_metric((found.replica, reason), rows)
    yield from (served, acked, spooled, dropped, degraded)
