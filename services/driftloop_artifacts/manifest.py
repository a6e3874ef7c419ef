"""What a folder contains: each file's name, size and SHA-256. The folder's address is the SHA-256
of this list, so it names the same bytes on every machine."""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath

from driftloop_contracts.errors import Rejected, shown
from driftloop_contracts.file_hash import sha256_of

PREFIX = "sha256:"
MOST_FILES = 100_000


@dataclass(frozen=True, slots=True)
class FileEntry:
    """name: relative to the folder, with `/`. size: in bytes. sha256: in hexadecimal digits."""

    name: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """`files`: sorted by name."""

    files: tuple[FileEntry, ...]

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.to_bytes()).hexdigest()

    def to_bytes(self) -> bytes:
        return json.dumps([asdict(file) for file in self.files], separators=(",", ":")).encode()


def read_manifest(text: bytes, digest: str) -> Manifest:
    """Raises Rejected unless the text has this digest and names files inside a folder."""
    if hashlib.sha256(text).hexdigest() != digest:
        raise Rejected(f"the list of the files of {PREFIX}{digest} was changed or cut off")
    try:
        files = tuple(FileEntry(**entry) for entry in json.loads(text))
    except (ValueError, TypeError):
        raise Rejected(f"{PREFIX}{digest} is not a list of files") from None
    _check(file.name for file in files)
    return Manifest(files)


def manifest_of(folder: Path) -> Manifest:
    """Read every file of a folder. Raises Rejected for a link or too many files."""
    paths = sorted(folder.rglob("*"))
    for path in paths:
        if path.is_symlink():
            raise Rejected(f"{path.name} is a link; a version contains files and folders only")
    files = [path for path in paths if path.is_file()]
    names = sorted(path.relative_to(folder).as_posix() for path in files)
    _check(names)
    return Manifest(tuple(_entry(folder, name) for name in names))


def _entry(folder: Path, name: str) -> FileEntry:
    path = folder / name
    return FileEntry(name, path.stat().st_size, sha256_of(path))


def _check(names: Iterable[str]) -> None:
    for count, name in enumerate(names, 1):
        place = PurePosixPath(name)
        if not place.parts or place.is_absolute() or ".." in place.parts or count > MOST_FILES:
            raise Rejected(f"{shown(name)} is not a file of a version, or there are too many")


def is_address(path: str) -> bool:
    """Whether a version's path names its content and not a folder of one machine."""
    return path.startswith(PREFIX)


def digest_of(address: str) -> str:
    """Raises Rejected for anything but an address."""
    digest = address.removeprefix(PREFIX)
    if not is_address(address) or len(digest) != 64 or set(digest) - set("0123456789abcdef"):
        raise Rejected(f"{shown(address)} is not {PREFIX} and 64 hexadecimal digits")
    return digest
