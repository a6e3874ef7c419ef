"""What any replica of a machine says of all of them, and does for all of them."""

from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from serving_stack import eventually, running_stack

pytestmark = [pytest.mark.integration, pytest.mark.timeout(240)]


def test_two_replicas_count_and_unload_as_one(tmp_path: Path) -> None:
    settings = ("serving.ingress=direct", "serving.replicas=2")
    with running_stack(tmp_path, *settings) as stack:
        eventually(stack.answering, lambda pids: len(pids) == 2)
        connections: list[httpx.Client] = []

        def counted() -> list[float]:
            return [
                sample.value
                for family in text_string_to_metric_families(connections[0].get("/metrics").text)
                for sample in family.samples
                if sample.name == "driftloop_requests_total"
            ]

        def each_has_answered() -> bool:
            """Which replica accepts a connection is chance."""
            connections.append(httpx.Client(base_url=stack.url))
            stack.ask(connections[-1]).raise_for_status()
            return len(connections) >= 20 and len(counted()) == 2

        eventually(each_has_answered, bool)
        asked = len(connections)
        eventually(counted, lambda counts: sum(counts) == asked)
        (entry,) = connections[0].get("/v2/models/m/stats").json()["model_stats"]
        assert entry["inference_count"] == asked

        connections[0].post("/v2/repository/models/m/unload").raise_for_status()
        for client in connections:
            eventually(
                lambda client=client: client.get("/v2/models/m/ready").status_code,  # type: ignore[misc]
                lambda status: status == 503,
            )
        connections[0].post("/v2/repository/models/m/load").raise_for_status()
        for client in connections:
            eventually(
                lambda client=client: client.get("/v2/models/m/ready").status_code,  # type: ignore[misc]
                lambda status: status == 200,
            )
            client.close()
