"""Accesses the lake's other files, on disk or in an object store.

pyarrow's file systems read credentials, region and endpoint from the environment, like deltalake.
(`deltalake.fs` holds the interpreter lock while it waits for the network.)
"""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any


def files(uri: str, folder: str) -> list[tuple[str, datetime]]:
    """Return (name, last written) of the files directly in a folder; empty if it does not exist."""
    from pyarrow import fs

    return [
        (info.base_name, info.mtime.astimezone(UTC))
        for info in _found(uri, folder)
        if info.type == fs.FileType.File
    ]


def folders(uri: str, folder: str) -> list[str]:
    """Return the names of the direct subfolders, sorted."""
    from pyarrow import fs

    return sorted(i.base_name for i in _found(uri, folder) if i.type == fs.FileType.Directory)


def delete(uri: str, paths: Iterable[str]) -> None:
    """Delete files, in this order."""
    system, root = _system(uri)
    for path in paths:
        system.delete_file(f"{root}/{path}")


def _found(uri: str, folder: str) -> list[Any]:
    from pyarrow import fs

    system, root = _system(uri)
    found = system.get_file_info(fs.FileSelector(f"{root}/{folder}", allow_not_found=True))
    return list(found)


def _system(uri: str) -> tuple[Any, str]:
    from pyarrow import fs

    system, root = fs.FileSystem.from_uri(uri) if "://" in uri else (fs.LocalFileSystem(), uri)
    return system, root.rstrip("/")
