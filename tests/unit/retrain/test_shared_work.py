"""Another machine goes on with a retrain from the last copy of its work folder."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from driftloop_artifacts import IN_PLACE, Artifacts
from driftloop_artifacts.blobs import FolderBlobs
from driftloop_artifacts.local_cache import LocalCache
from driftloop_retrain.record.shared_work import SharedWork
from driftloop_store import Store, open_store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with closing(open_store(f"sqlite:///{tmp_path / 'store.db'}")) as opened:
        yield opened


def work_of(tmp_path: Path, store: Store, machine: str) -> tuple[SharedWork, Path]:
    cache = LocalCache(tmp_path / machine / "cache", 1 << 30)
    folder = tmp_path / machine / "retrains" / "r1"
    artifacts = Artifacts((FolderBlobs(tmp_path / "shared"), cache))
    return SharedWork(artifacts, store, "r1", folder), folder


def stored(tmp_path: Path) -> list[str]:
    return [path.name for path in (tmp_path / "shared").rglob("*.tar")]


def test_another_machine_goes_on_from_the_last_copy(tmp_path: Path, store: Store) -> None:
    work, here = work_of(tmp_path, store, "a")
    (here / "checkpoints").mkdir(parents=True)
    for step in (1, 2):
        (here / "checkpoints" / f"step {step}").write_text(str(step))
        work.save()
    other, there = work_of(tmp_path, store, "b")
    assert other.restore()
    assert (there / "checkpoints" / "step 2").read_text() == "2"
    assert [path.name for path in there.parent.iterdir()] == ["r1"]
    assert len(stored(tmp_path)) == 1  # the one before is gone


def test_what_is_here_is_newer_than_a_copy(tmp_path: Path, store: Store) -> None:
    work, here = work_of(tmp_path, store, "a")
    here.mkdir(parents=True)
    (here / "outcome.json").write_text("old")
    work.save()
    (here / "outcome.json").write_text("newer")
    assert not work_of(tmp_path, store, "a")[0].restore()
    assert (here / "outcome.json").read_text() == "newer"


def test_what_has_not_changed_is_not_copied_again(tmp_path: Path, store: Store) -> None:
    work, here = work_of(tmp_path, store, "a")
    here.mkdir(parents=True)
    (here / "x").write_text("x")
    work.save()
    first = stored(tmp_path)
    work.save()
    assert stored(tmp_path) == first


def test_a_retrain_that_ended_leaves_nothing(tmp_path: Path, store: Store) -> None:
    work, here = work_of(tmp_path, store, "a")
    here.mkdir(parents=True)
    (here / "x").write_text("x")
    work.save()
    work.forget()
    work.forget()
    assert stored(tmp_path) == []
    other, there = work_of(tmp_path, store, "b")
    assert not other.restore()
    assert not there.exists()


def test_a_damaged_copy_means_to_begin_anew(tmp_path: Path, store: Store) -> None:
    work, here = work_of(tmp_path, store, "a")
    here.mkdir(parents=True)
    (here / "x").write_text("x")
    work.save()
    (tar,) = (tmp_path / "shared").rglob("*.tar")
    tar.chmod(0o644)
    tar.write_bytes(b"half")
    other, there = work_of(tmp_path, store, "b")
    assert not other.restore()
    assert not there.exists()


def test_a_stack_on_one_machine_copies_nothing(tmp_path: Path, store: Store) -> None:
    work = SharedWork(IN_PLACE, store, "r1", tmp_path / "retrains" / "r1")
    (tmp_path / "retrains" / "r1").mkdir(parents=True)
    (tmp_path / "retrains" / "r1" / "x").write_text("x")
    with work.kept(0.0):
        work.save()
    assert store.cursor("retrain-work/r1") is None
