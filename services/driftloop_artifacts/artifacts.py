"""Stores folders by content and makes them available on this machine."""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from driftloop_artifacts.blobs import Blobs, blobs_at
from driftloop_artifacts.local_cache import LocalCache
from driftloop_artifacts.manifest import (
    PREFIX,
    Manifest,
    digest_of,
    is_address,
    manifest_of,
    read_manifest,
)
from driftloop_contracts.errors import NotFound, Rejected

if TYPE_CHECKING:
    from driftloop_settings import Settings

Files = Callable[[str], AbstractContextManager[Path]]
"""Gives the folder of a version's path, for as long as the block runs (`Artifacts.use`)."""


class Artifacts:
    """`stored`: the files in common and this machine's cache of them; None: a stack on one machine,
    whose versions are named by their folders."""

    def __init__(self, stored: tuple[Blobs, LocalCache] | None) -> None:
        self._stored = stored

    @property
    def place(self) -> str | None:
        """Where the files in common are, for people; None: nowhere."""
        return None if self._stored is None else self._stored[0].place

    def put(self, folder: Path) -> str:
        """Store a folder and return its address. Files that are there already are not sent again.
        Raises RetryLater if the place cannot be reached or written."""
        blobs, _ = self._shared("a folder")
        manifest = manifest_of(folder)
        for file in manifest.files:
            blobs.put(_blob(file.sha256), folder / file.name)
        with tempfile.TemporaryDirectory() as scratch:
            listed = Path(scratch) / "list"
            listed.write_bytes(manifest.to_bytes())
            blobs.put(_list(manifest.digest), listed)  # last: now the folder can be found
        return f"{PREFIX}{manifest.digest}"

    @contextmanager
    def use(self, path: str) -> Iterator[Path]:
        """The folder of a version on this machine: a folder is itself, an address is fetched at
        first and stays as long as the block runs. Raises RetryLater if it cannot be reached,
        NotFound or Rejected if it cannot be had."""
        if not is_address(path):
            yield Path(path.removeprefix("file://"))
            return
        digest = digest_of(path)
        blobs, cache = self._shared(path)

        def listed() -> Manifest:
            with tempfile.TemporaryDirectory() as scratch:
                blobs.get(_list(digest), Path(scratch) / "list")
                return read_manifest((Path(scratch) / "list").read_bytes(), digest)

        def fetch(manifest: Manifest, folder: Path) -> None:
            for file in manifest.files:
                (folder / file.name).parent.mkdir(parents=True, exist_ok=True)
                blobs.get(_blob(file.sha256), folder / file.name)

        with cache.use(digest, listed, fetch) as found:
            yield found

    def keep(self, name: str, file: Path) -> None:
        """Store a file that does not change any more under a name, for other machines. Raises
        RetryLater if the place cannot be reached or written."""
        if self._stored is not None:
            self._stored[0].put(f"named/{name}", file)

    def bring(self, name: str, file: Path) -> bool:
        """Whether the file is on this machine; it is fetched by its name if another one has stored
        it. Raises RetryLater."""
        if self._stored is None or file.is_file():
            return file.is_file()
        file.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=file.parent, prefix=".part-") as scratch:
            part = Path(scratch) / "file"
            try:
                self._stored[0].get(f"named/{name}", part)
            except NotFound:
                return False
            part.replace(file)
        return True

    @property
    def blobs(self) -> Blobs:
        """The files in common. Raises Rejected if there are none."""
        return self._shared("what machines share")[0]

    def drop(self, name: str) -> None:
        """Remove what was stored under a name. Raises RetryLater."""
        if self._stored is not None:
            self._stored[0].delete(f"named/{name}")

    def _shared(self, wanted: str) -> tuple[Blobs, LocalCache]:
        if self._stored is None:
            raise Rejected(
                f"{wanted} is kept among the artifacts that machines share; set "
                "registry.artifacts to where they are"
            )
        return self._stored


IN_PLACE = Artifacts(None)
"""Knows the folders of this machine only."""


def open_artifacts(settings: "Settings") -> Artifacts:
    """Those of the settings, without any I/O."""
    place = settings.registry.artifacts
    if place is None:
        return IN_PLACE
    cache = LocalCache(settings.state_dir / "artifacts", settings.registry.cache_mb << 20)
    return Artifacts((blobs_at(place), cache))


def _blob(sha256: str) -> str:
    return f"blobs/{sha256[:2]}/{sha256}"


def _list(digest: str) -> str:
    return f"folders/{digest}.json"
