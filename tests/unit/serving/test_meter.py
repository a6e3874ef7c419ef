import asyncio
import contextlib
import json
import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from driftloop_contracts.model import Arm
from driftloop_serving.capture.spool import SpoolWriter
from driftloop_serving.metrics.meter import ReplicaMeter
from driftloop_serving.metrics.meter_files import Graphs, Load, MeterFiles
from driftloop_serving.metrics.prometheus_text import MOST_SERIES, render
from driftloop_serving.metrics.triton_statistics import by_version, statistics
from driftloop_settings import CaptureSettings


@dataclass
class Answer:
    """Of a language model."""

    prompt_tokens: int = 5
    completion_tokens: int = 7
    first_token_s: float = 0.3
    token_s: float = 0.02


class Replica:
    def __init__(self, root: Path) -> None:
        self.spool = SpoolWriter(root / "spool", "replica", CaptureSettings())
        self.meter = ReplicaMeter()
        self.load = Load(3, 1.5)
        self.files = MeterFiles(
            root / "metrics", root / "spool", self.spool.replica, self.meter, lambda: self.load
        )
        self.file = root / "metrics" / f"{self.spool.replica}.json"
        self._writing: asyncio.Task[None] | None = None

    async def write(self) -> None:
        self._writing = asyncio.create_task(self.files.keep_written())
        while not self.file.exists():
            await asyncio.sleep(0.01)

    async def leave(self) -> None:
        if self._writing is None:
            return
        self._writing.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._writing
        self._writing = None
        self.spool.close()


@pytest.fixture
async def two(tmp_path: Path) -> AsyncIterator[tuple[Replica, Replica]]:
    """Return two replicas that have answered; the second one's counts are in its file."""
    first, second = Replica(tmp_path), Replica(tmp_path)
    first.meter.answered("m", 1, "stable", [0.0002, 0.003], 5, 0.001, 0.002, 0.003, 0.004)
    second.meter.answered("m", 1, "stable", [20.0], 1, 0.0, 0.0, 1.0, 0.0)
    second.meter.answered("m", 2, "canary", [0.1], 1, 0.0, 0.0, 0.1, 0.0)
    second.meter.failed("m", 2, "canary", "ModelFailed")
    second.meter.failed("", None, None, "NotFound")
    await second.write()
    yield first, second
    first.spool.close()
    await second.leave()


async def samples(of: Replica, name: str, **labels: str) -> list[float]:
    text, _ = render(await of.files.read_all())
    return [
        sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    ]


async def test_any_replica_tells_of_all(two: tuple[Replica, Replica]) -> None:
    assert sorted(await samples(two[0], "driftloop_requests_total", version="1")) == [1, 2]
    assert await samples(two[0], "driftloop_requests_total", version="2", arm="canary") == [1]
    assert sorted(await samples(two[0], "driftloop_rows_total", model="m")) == [2, 5]
    assert await samples(two[0], "driftloop_busy_seconds_total") == [1.5, 1.5]


async def test_buckets_hold_all_up_to_their_bound(two: tuple[Replica, Replica]) -> None:
    name = "driftloop_request_seconds_bucket"
    first, second = (replica.spool.replica for replica in two)
    assert await samples(two[0], name, replica=first, le="0.0005") == [1]
    assert await samples(two[0], name, replica=first, le="0.005") == [2]
    assert await samples(two[0], name, replica=second, le="1.0") == [1]
    assert await samples(two[0], name, replica=second, le="+Inf") == [2]
    total = await samples(two[0], "driftloop_request_seconds_sum", replica=first)
    assert total == pytest.approx([0.0032])


ARMS: tuple[tuple[int, Arm], ...] = (
    (1, "stable"), (2, "canary"), (2, "stable"), (1, "pinned"), (3, "canary"),
)  # fmt: skip
"""As a canary of version 2 that was promoted, and one of version 3, leave them."""


@pytest.mark.parametrize("kind", ["tabular", "language"])
async def test_a_model_has_few_series_in_each_replica(
    two: tuple[Replica, Replica], kind: str
) -> None:
    meter, replica = two[0].meter, two[0].spool.replica
    meter.counts.clear()
    for version, arm in ARMS:
        meter.answered("m", version, arm, [0.002], 1, 0.1, 0.2, 0.3, 0.4)
        if kind == "language":
            meter.generated("m", version, arm, [Answer()])
        for reason in ("ModelFailed", "Timeout", "ClientGone"):
            meter.failed("m", version, arm, reason)
    (own, *_) = await two[0].files.read_all()
    entry = {"served": 6, "acked": 3, "spooled": 1, "dropped": {"quota": 1, "disk": 1}}
    capture = {f"m/{version}": {**entry, "degraded": {"late": 2}} for version in (1, 2, 3)}
    text, _ = render([replace(own, capture=capture)])
    mine = [
        sample
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
        if sample.labels.get("model") == "m"
    ]
    assert len(mine) == MOST_SERIES
    asked = {
        (s.labels["version"], s.labels["arm"]) for s in mine if s.name == "driftloop_requests_total"
    }
    assert asked == {("2", "stable"), ("1", "pinned"), ("3", "canary")}
    values = {s.name: s.value for s in mine}
    assert values["driftloop_capture_rows_total"] == 18
    assert values["driftloop_model_failures_total"] == 15
    assert ("driftloop_token_seconds_sum" in values) == (kind == "language")
    assert ("driftloop_runs_total" in values) == (kind == "tabular")
    dropped = 'driftloop_capture_dropped_rows_total{reason="quota",replica="%s"} 3.0'
    assert dropped % replica in text.decode()


async def test_graphs_in_memory_are_told_where_they_have_a_limit(
    two: tuple[Replica, Replica],
) -> None:
    assert await samples(two[0], "driftloop_graphs") == []
    two[1].load = Load(0, 0.0, Graphs(awake=2, asleep=3, bytes=5_000_000, loads=9))
    while await samples(two[0], "driftloop_graph_loads_total") != [9]:  # from its file
        await asyncio.sleep(0.01)
    assert await samples(two[1], "driftloop_graphs", state="loaded") == [2]
    assert await samples(two[1], "driftloop_graphs", state="asleep") == [3]
    assert await samples(two[1], "driftloop_graph_memory_bytes") == [5_000_000]


async def test_the_parts_of_a_request_are_summed_over_models(two: tuple[Replica, Replica]) -> None:
    two[0].meter.answered("n", 1, "stable", [0.002], 1, 0.1, 0.2, 0.3, 0.4)
    replica = two[0].spool.replica
    queued = await samples(two[0], "driftloop_queue_seconds_total", replica=replica)
    assert queued == pytest.approx([0.101])


async def test_a_language_models_times_are_those_of_its_tokens(
    two: tuple[Replica, Replica],
) -> None:
    meter, place = two[0].meter, {"replica": two[0].spool.replica, "model": "l"}
    for version, arm in ARMS[:2]:
        meter.answered("l", version, arm, [3.0], 1, 0.0, 0.0, 3.0, 0.0)
        meter.generated("l", version, arm, [Answer()])
    for bound, answers in (("0.25", 0), ("0.5", 2)):
        first = await samples(two[0], "driftloop_first_token_seconds_bucket", le=bound, **place)
        assert first == [answers]
    assert await samples(two[0], "driftloop_token_seconds_sum", **place) == pytest.approx([0.04])
    assert await samples(two[0], "driftloop_token_seconds_count", **place) == [2]
    assert await samples(two[0], "driftloop_completion_tokens_total", **place) == [14]
    assert await samples(two[0], "driftloop_request_seconds_count", **place) == []


async def test_failures_are_counted_by_reason(two: tuple[Replica, Replica]) -> None:
    name = "driftloop_request_failures_total"
    assert await samples(two[0], name, reason="ModelFailed") == [1]
    assert await samples(two[0], name, reason="NotFound") == [1]
    second = two[1].spool.replica
    for model in ("m", ""):
        failed = await samples(
            two[0], "driftloop_model_failures_total", replica=second, model=model
        )
        assert failed == [1]


async def test_a_replica_that_left_is_gone(two: tuple[Replica, Replica]) -> None:
    await two[1].leave()
    assert not two[1].file.exists()
    assert len(await two[0].files.read_all()) == 1


@pytest.mark.parametrize("spool", ["there", "gone"])
async def test_a_killed_replica_is_left_out_and_swept(
    two: tuple[Replica, Replica], tmp_path: Path, spool: str
) -> None:
    text = two[1].file.read_text()
    await two[1].leave()
    two[1].file.write_text(text)  # as a kill leaves it
    if spool == "gone":
        shutil.rmtree(tmp_path / "spool" / two[1].spool.replica)
    assert len(await two[0].files.read_all()) == 1
    assert not two[1].file.exists()


async def test_a_scraper_may_ask_for_openmetrics(two: tuple[Replica, Replica]) -> None:
    text, kind = render(
        await two[0].files.read_all(), "application/openmetrics-text; version=1.0.0"
    )
    assert kind.startswith("application/openmetrics-text")
    assert text.endswith(b"# EOF\n")


async def test_statistics_sum_over_replicas_and_arms(two: tuple[Replica, Replica]) -> None:
    two[0].meter.answered("m", 1, "pinned", [0.5], 1, 0.25, 0.0, 0.0, 0.0)
    sums = by_version(await two[0].files.read_all())
    entry = statistics(("m", 1), sums["m", 1])
    assert (entry["inference_count"], entry["execution_count"]) == (7, 3)
    assert entry["inference_stats"]["success"] == {"count": 4, "ns": 20_503_200_000}
    assert entry["inference_stats"]["queue"] == {"count": 4, "ns": 251_000_000}
    assert entry["inference_stats"]["compute_infer"] == {"count": 3, "ns": 1_003_000_000}
    assert statistics(("m", 2), sums["m", 2])["inference_stats"]["fail"]["count"] == 1
    json.dumps(entry)
