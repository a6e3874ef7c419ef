"""The counts in the format of Triton's statistics extension."""

from collections.abc import Iterable
from typing import Any

from driftloop_serving.metrics.meter import Counts
from driftloop_serving.metrics.meter_files import ReplicaCounts

Version = tuple[str, int]


def by_version(replicas: Iterable[ReplicaCounts]) -> dict[Version, Counts]:
    """Return the sums over replicas and arms."""
    sums: dict[Version, Counts] = {}
    for found in replicas:
        for (model, version, _), counts in found.counts.items():
            sums.setdefault((model, version), Counts()).add(counts)
    return sums


def statistics(version: Version, counts: Counts) -> dict[str, Any]:
    """Return one entry of `model_stats`. The times of success and queue are sums over requests,
    those of compute over runs, which requests may share."""
    return {
        "name": version[0],
        "version": str(version[1]),
        "last_inference": int(counts.last_at * 1e3),
        "inference_count": counts.rows,
        "execution_count": counts.runs,
        "inference_stats": {
            "success": _duration(counts.requests, counts.latency_s),
            "fail": _duration(counts.failures.total(), 0.0),
            "queue": _duration(counts.requests, counts.queue_s),
            "compute_input": _duration(counts.runs, counts.input_s),
            "compute_infer": _duration(counts.runs, counts.infer_s),
            "compute_output": _duration(counts.runs, counts.output_s),
            "cache_hit": _duration(0, 0.0),
            "cache_miss": _duration(0, 0.0),
        },
        "batch_stats": [],
    }


def _duration(count: int, seconds: float) -> dict[str, int]:
    return {"count": count, "ns": round(seconds * 1e9)}
