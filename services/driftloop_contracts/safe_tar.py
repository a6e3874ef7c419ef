"""Unpacks tar archives that somebody else made: files and folders below a folder, nothing else."""

import os
import shutil
import tarfile
from pathlib import Path, PurePosixPath

from driftloop_contracts.errors import Rejected, shown


def unpack(tar: tarfile.TarFile, folder: Path) -> None:
    """Write the files, with their times, as this process's own. Raises Rejected for a member that
    is not a file or folder below it, and what tarfile raises. (`tarfile`'s own filters need Python
    3.11.4, and Debian 12 has an earlier one.)"""
    for member in tar:
        place = PurePosixPath(member.name)
        is_inside = not place.is_absolute() and ".." not in place.parts
        if not is_inside or not (member.isreg() or member.isdir()):
            raise Rejected(
                f"the archive contains {shown(member.name)}; it may only contain files and "
                "folders, no links and no absolute paths"
            )
        target = folder / place
        if member.isdir():
            target.mkdir(parents=True, exist_ok=True)
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        source = tar.extractfile(member)
        assert source is not None  # it is a file
        with source, target.open("wb") as sink:
            shutil.copyfileobj(source, sink)
        os.utime(target, (member.mtime, member.mtime))
