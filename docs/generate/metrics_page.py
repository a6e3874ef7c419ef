"""docs/reference/metrics.md, from the metrics that the serving port and the control port answer."""

from layout import page, table
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from driftloop_gateway.fleet_metrics import MOST_SERIES, Fleet, FleetCollector
from driftloop_serving.metrics.prometheus_text import MOST_SERIES as MOST_OF_REPLICA
from driftloop_serving.metrics.prometheus_text import ReplicaCollector

SERVING = f"""\
`GET /metrics` on the serving port answers in Prometheus' text format, or in OpenMetrics if the
scraper asks for it, with the series of all replicas of the machine, whichever replica is asked. The
series of a replica end when it stops. A model has at most {MOST_OF_REPLICA} in a replica, during a
canary too."""
CONTROL = f"""\
## The loop

`GET /metrics` on the control port answers with the state of the loop, at most five seconds old. A
model has at most {MOST_SERIES} series, in whatever state it is; a value that is not known has none.
`deploy/grafana` has dashboards and `deploy/prometheus` alert rules that use these metrics."""


def render() -> str:
    served, loop = _table(ReplicaCollector(())), _table(FleetCollector(Fleet()))
    return page("Metrics", SERVING, served, CONTROL, loop)


def _table(collector: Collector) -> str:
    rows = [
        (f"`{name(family)}`", family.type, ", ".join(family._labelnames), family.documentation)
        for family in collector.collect()
    ]
    return table(("name", "type", "labels", "meaning"), rows)


def name(family: Metric) -> str:
    return family.name + ("_total" if family.type == "counter" else "")
