"""docs/reference/metrics.md, from the metrics that a replica's serving port answers with."""

from layout import page, table
from prometheus_client.metrics_core import Metric

from driftloop_serving.metrics.prometheus_text import ReplicaCollector

INTRODUCTION = """\
`GET /metrics` on the serving port answers in Prometheus' text format, or in OpenMetrics if the
scraper asks for it, with the series of all replicas of the machine, whichever replica is asked. The
series of a replica end when it stops."""


def render() -> str:
    rows = [
        (f"`{name(family)}`", family.type, ", ".join(family._labelnames), family.documentation)
        for family in ReplicaCollector(()).collect()
    ]
    return page("Metrics", INTRODUCTION, table(("name", "type", "labels", "meaning"), rows))


def name(family: Metric) -> str:
    return family.name + ("_total" if family.type == "counter" else "")
