"""Who shares out the partitions of a group must know them."""

from types import SimpleNamespace
from typing import Any

import pytest
from kafka.protocol.consumer.metadata import ConsumerProtocolSubscription

from driftloop_bus.kafka_consumers import _InformedAssignor
from kafka import errors as kafka_errors


class Cluster:
    """What a client knows of the topics; how often it was told to ask."""

    def __init__(self, **partitions: set[int]) -> None:
        self._partitions = partitions
        self.asked = 0

    def topics(self) -> set[str]:
        return set(self._partitions)

    def partitions_for_topic(self, topic: str) -> set[int] | None:
        return self._partitions.get(topic)

    def request_update(self) -> None:
        self.asked += 1


def member(name: str) -> Any:
    told = ConsumerProtocolSubscription(
        version=1, topics=["a", "b"], user_data=b"", owned_partitions=[]
    )
    return SimpleNamespace(member_id=name, metadata=told)


@pytest.mark.parametrize("known", [{}, {"a": {0}}, {"a": {0}, "b": set()}])
def test_a_leader_that_does_not_know_a_topic_yet_shares_out_nothing(
    known: dict[str, set[int]],
) -> None:
    cluster = Cluster(**known)
    with pytest.raises(kafka_errors.RetriableError):
        _InformedAssignor().assign(cluster, [member("one")])
    assert cluster.asked == 1


def test_a_leader_that_knows_all_topics_shares_out_all_partitions() -> None:
    shares = _InformedAssignor().assign(Cluster(a={0, 1}, b={0}), [member("one"), member("two")])
    given = [(t, p) for share in shares.values() for t, ps in share.assigned_partitions for p in ps]
    assert sorted(given) == [("a", 0), ("a", 1), ("b", 0)]
