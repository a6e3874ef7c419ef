"""Jars are used only as the lock names them."""

import hashlib
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from driftloop_bus.kafka_distribution import (
    Lock,
    LockedJar,
    cache_folder,
    class_path,
    locked_jars,
    read_lock,
)
from driftloop_contracts.errors import Unavailable


def jar(name: str, content: bytes) -> LockedJar:
    return LockedJar("org.example", name, "1.0", hashlib.sha256(content).hexdigest())


LOCK = Lock((jar("kafka_2.13", b"one"), jar("other", b"two")), "0123456789abcdef" * 4)
CONTENT = {"kafka_2.13": b"one", "other": b"two"}


class Repository:
    """A source of jars that counts what it was asked for."""

    def __init__(self, content: dict[str, bytes]) -> None:
        self.content = content
        self.asked: list[str] = []
        self._lock = threading.Lock()

    def fetch(self, wanted: LockedJar, scratch: Path) -> Path:
        with self._lock:
            self.asked.append(wanted.artifact)
        path = scratch / wanted.filename
        path.write_bytes(self.content[wanted.artifact])
        return path


def test_jars_are_fetched_once(tmp_path: Path) -> None:
    repository = Repository(CONTENT)
    folder = locked_jars(LOCK, tmp_path, repository.fetch)
    assert (folder / "other-1.0.jar").read_bytes() == b"two"
    assert locked_jars(LOCK, tmp_path, repository.fetch) == folder
    assert sorted(repository.asked) == ["kafka_2.13", "other"]


def test_a_fetched_jar_that_differs_from_the_lock_is_refused(tmp_path: Path) -> None:
    repository = Repository(CONTENT | {"other": b"tampered"})
    with pytest.raises(Unavailable, match=r"other-1\.0\.jar does not match the lock"):
        locked_jars(LOCK, tmp_path, repository.fetch)
    assert not list(tmp_path.glob("*/other-1.0.jar"))


def test_a_jar_that_was_tampered_with_in_the_cache_is_fetched_again(tmp_path: Path) -> None:
    repository = Repository(CONTENT)
    folder = locked_jars(LOCK, tmp_path, repository.fetch)
    (folder / "other-1.0.jar").write_bytes(b"tampered")
    locked_jars(LOCK, tmp_path, repository.fetch)
    assert (folder / "other-1.0.jar").read_bytes() == b"two"
    assert repository.asked.count("other") == 2


def test_stacks_that_start_together_fetch_once(tmp_path: Path) -> None:
    repository = Repository(CONTENT)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: locked_jars(LOCK, tmp_path, repository.fetch), range(4)))
    assert sorted(repository.asked) == ["kafka_2.13", "other"]


def test_the_committed_lock_names_kafka_and_nothing_of_the_machine_it_was_made_on() -> None:
    lock = read_lock()
    assert lock.kafka_version == "4.3.1"
    assert len(lock.jars) == 46
    assert len({j.filename for j in lock.jars}) == 46
    assert all(len(j.sha256) == 64 for j in lock.jars)
    text = (Path(__file__).parents[3] / "deploy/kafka/jgo.lock.toml").read_text()
    assert "://" not in text
    assert "/" not in text


def test_a_lock_that_cannot_be_read_says_which(tmp_path: Path) -> None:
    broken = tmp_path / "jgo.lock.toml"
    broken.write_text("[[dependencies]]\ngroupId = 'only'")
    with pytest.raises(Unavailable, match=r"jgo\.lock\.toml"):
        read_lock(broken)


def test_an_installed_distribution_is_used_without_fetching(tmp_path: Path) -> None:
    (tmp_path / "libs").mkdir()
    (tmp_path / "libs" / "kafka_2.13-4.3.1.jar").touch()
    assert class_path({"KAFKA_HOME": str(tmp_path)}) == f"{tmp_path}/libs/*"


def test_a_kafka_home_without_kafka_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="contains no Apache Kafka"):
        class_path({"KAFKA_HOME": str(tmp_path)})


def test_the_cache_is_the_users(tmp_path: Path) -> None:
    assert cache_folder({"XDG_CACHE_HOME": str(tmp_path)}) == tmp_path / "driftloop" / "kafka"
