"""Provides the jars of Apache Kafka: from an installed distribution, or as listed in the committed
lock.

The lock is written by `jgo` 3.2 for `org.apache.kafka:kafka_2.13` with an slf4j binding. Each jar
is fetched by its exact coordinate and used only if its SHA-256 matches the lock. The jars are in a
folder of the user's cache, named after the lock, and are verified at every start.
"""

import fcntl
import hashlib
import os
import tempfile
import tomllib
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import structlog

from driftloop_contracts.errors import Unavailable
from driftloop_contracts.file_hash import sha256_of

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class LockedJar:
    """A jar with its Maven coordinate; `sha256` in lower-case hexadecimal."""

    group: str
    artifact: str
    version: str
    sha256: str

    @property
    def filename(self) -> str:
        return f"{self.artifact}-{self.version}.jar"


@dataclass(frozen=True, slots=True)
class Lock:
    """The jars in class path order; `digest` identifies the lock."""

    jars: tuple[LockedJar, ...]
    digest: str

    @property
    def kafka_version(self) -> str:
        return next(jar.version for jar in self.jars if jar.artifact.startswith("kafka_"))


def read_lock(path: Path | None = None) -> Lock:
    """Read the committed lock. Raises Unavailable if it is missing or cannot be read."""
    path = path or _lock_path()
    try:
        text = path.read_bytes()
        entries = tomllib.loads(text.decode())["dependencies"]
        jars = tuple(
            LockedJar(e["groupId"], e["artifactId"], e["version"], e["sha256"]) for e in entries
        )
    except (OSError, KeyError, ValueError) as error:
        raise Unavailable(f"the lock of Apache Kafka, {path}, cannot be read: {error!r}") from error
    return Lock(jars, hashlib.sha256(text).hexdigest())


def _lock_path() -> Path:
    packaged = Path(__file__).parent / "kafka" / "jgo.lock.toml"
    checkout = Path(__file__).parents[2] / "deploy" / "kafka" / "jgo.lock.toml"
    return packaged if packaged.is_file() else checkout


def class_path(environ: Mapping[str, str] = os.environ) -> str:
    """Return the class path for `java -cp`: the jars of KAFKA_HOME if it is set, otherwise the
    locked ones, fetched on first use. Raises Unavailable."""
    if home := environ.get("KAFKA_HOME"):
        libraries = Path(home) / "libs"
        if not any(libraries.glob("kafka*.jar")):
            raise Unavailable(f"KAFKA_HOME is {home}, but {libraries} contains no Apache Kafka")
        return f"{libraries}/*"
    lock = read_lock()
    folder = locked_jars(lock, cache_folder(environ))
    return os.pathsep.join(str(folder / jar.filename) for jar in lock.jars)


def cache_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """Return the folder of this user's jars, shared by all stacks of this machine."""
    base = environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "driftloop" / "kafka"


Fetch = Callable[[LockedJar, Path], Path]
"""Downloads a jar into a folder below the given one, and returns its path."""


def locked_jars(lock: Lock, cache: Path, fetch: Fetch | None = None) -> Path:
    """Return the folder with every jar of the lock, verified. Missing or damaged jars are fetched.
    Safe to call from several processes at once. Raises Unavailable if a jar cannot be provided as
    locked."""
    folder = cache / lock.digest[:16]
    if not _wrong(lock, folder):
        return folder
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with _alone(cache / "fetch.lock"):
            if missing := _wrong(lock, folder):
                log.info("kafka.fetching", jars=len(missing), version=lock.kafka_version)
                _fetch_all(missing, folder, fetch or _from_maven)
                log.info("kafka.fetched", jars=len(missing), folder=str(folder))
    except OSError as error:
        raise Unavailable(f"the cache of Apache Kafka, {cache}, cannot be used: {error}") from error
    return folder


def _wrong(lock: Lock, folder: Path) -> list[LockedJar]:
    return [jar for jar in lock.jars if not _is_locked(folder / jar.filename, jar)]


def _is_locked(path: Path, jar: LockedJar) -> bool:
    try:
        return sha256_of(path) == jar.sha256
    except OSError:
        return False


def _fetch_all(jars: list[LockedJar], folder: Path, fetch: Fetch) -> None:
    folder.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:

        def place(jar: LockedJar) -> None:
            fetched = fetch(jar, Path(scratch))
            if not _is_locked(fetched, jar):
                raise Unavailable(
                    f"{jar.filename} does not match the lock (SHA-256 differs); "
                    "it was fetched and is not used"
                )
            # Renamed within one file system, so that an interrupted fetch leaves no partial jar.
            fetched.replace(folder / jar.filename)

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(place, jars))


def _from_maven(jar: LockedJar, scratch: Path) -> Path:
    from jgo.config import GlobalSettings
    from jgo.maven import MavenContext

    # jgo's own cache (often ~/.m2, shared with other tools) is not used, since its content is not
    # verified.
    context = MavenContext(repo_cache=scratch, local_repos=[], timeout=30)
    context.remote_repos.update(GlobalSettings.load().repositories)
    try:
        component = context.project(jar.group, jar.artifact).at_version(jar.version)
        return Path(component.artifact().resolve())
    except Exception as error:
        raise Unavailable(
            f"{jar.filename} of Apache Kafka could not be fetched ({type(error).__name__}: "
            f"{error}). "
            "Set KAFKA_HOME to an installed distribution, or kafka.bootstrap_servers to a cluster"
        ) from error


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
