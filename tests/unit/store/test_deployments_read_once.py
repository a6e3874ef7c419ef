"""Deployments are parsed once for each revision, and nobody sees an old one."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from console_records import deploy

from driftloop_contracts.model import TrafficSplit
from driftloop_store import Store, open_store


@pytest.fixture
def two(tmp_path: Path) -> Iterator[tuple[Store, Store]]:
    """The same store, opened by two processes."""
    url = f"sqlite:///{tmp_path / 'store.db'}"
    opened = open_store(url), open_store(url)
    yield opened
    for store in opened:
        store.close()


def test_what_another_process_changed_is_read(two: tuple[Store, Store]) -> None:
    mine, other = two
    for name in ("b", "a", "c"):
        deploy(other, name, 1, 2)
    before = {found.model.name: found for found in mine.deployments()}
    assert list(before) == ["a", "b", "c"]
    changed = other.put_deployment(replace(before["b"], split=TrafficSplit(2)))
    other.remove_deployment("c")
    after = {found.model.name: found for found in mine.deployments()}
    assert after == {"a": before["a"], "b": changed}
    assert after["a"] is before["a"]
    again = deploy(other, "c", 2)
    assert mine.deployments()[-1] == again
