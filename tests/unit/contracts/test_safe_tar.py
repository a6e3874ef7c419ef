"""What is unpacked of an archive that somebody else made."""

import io
import tarfile
from pathlib import Path

import pytest

from driftloop_contracts.errors import Rejected
from driftloop_contracts.safe_tar import unpack


def archive(*members: tarfile.TarInfo) -> tarfile.TarFile:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        for member in members:
            content = member.name.encode() if member.isreg() else b""
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    data.seek(0)
    return tarfile.open(fileobj=data)


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    found = tarfile.TarInfo(name)
    found.type, found.linkname = kind, link
    return found


def test_files_and_folders_are_written_with_their_times_and_our_rights(tmp_path: Path) -> None:
    file = member("./a/b")
    file.mtime, file.mode, file.uid = 1_700_000_000, 0o4777, 12345
    unpack(archive(member(".", tarfile.DIRTYPE), file, member("empty", tarfile.DIRTYPE)), tmp_path)
    found = tmp_path / "a" / "b"
    assert found.read_text() == "./a/b"
    assert found.stat().st_mtime == 1_700_000_000
    assert found.stat().st_mode & 0o7111 == 0
    assert found.stat().st_uid == tmp_path.stat().st_uid
    assert (tmp_path / "empty").is_dir()


@pytest.mark.parametrize(
    "bad",
    [
        member("/absolute"), member("../outside"), member("a/../../outside"),
        member("link", tarfile.SYMTYPE, "/etc/passwd"), member("hard", tarfile.LNKTYPE, "a"),
        member("pipe", tarfile.FIFOTYPE), member("device", tarfile.CHRTYPE),
    ],
    ids=lambda bad: bad.name,
)  # fmt: skip
def test_anything_else_is_refused_by_name(bad: tarfile.TarInfo, tmp_path: Path) -> None:
    inside = tmp_path / "inside"
    inside.mkdir()
    with pytest.raises(Rejected, match=bad.name.rpartition("/")[2]):
        unpack(archive(member("a"), bad), inside)
    assert [path.name for path in tmp_path.rglob("*")] == ["inside", "a"]
