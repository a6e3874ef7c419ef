"""Folders by content: what was stored comes back on a machine that has only its own cache."""

import os
import threading
from contextlib import ExitStack
from pathlib import Path

import pytest

from driftloop_artifacts import IN_PLACE, Artifacts
from driftloop_artifacts.blobs import FolderBlobs
from driftloop_artifacts.local_cache import LocalCache
from driftloop_artifacts.manifest import FileEntry, Manifest, manifest_of, read_manifest
from driftloop_contracts.errors import NotFound, Rejected, RetryLater

SIZE = 1_000


class CountedBlobs(FolderBlobs):
    """Counts what is fetched."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.fetched: list[str] = []

    def get(self, key: str, file: Path) -> None:
        self.fetched.append(key)
        super().get(key, file)


@pytest.fixture
def blobs(tmp_path: Path) -> CountedBlobs:
    return CountedBlobs(tmp_path / "shared")


def machine(tmp_path: Path, blobs: FolderBlobs, name: str = "a", limit: int = 1 << 30) -> Artifacts:
    return Artifacts((blobs, LocalCache(tmp_path / name, limit)))


def made(tmp_path: Path, name: str, content: bytes = b"") -> Path:
    folder = tmp_path / "made" / name
    (folder / "weights").mkdir(parents=True)
    (folder / "model.onnx").write_bytes(content or name.encode())
    (folder / "weights" / "ü 1.bin").write_bytes(name.encode() * (SIZE // len(name)))
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    found = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


def cached(tmp_path: Path, name: str = "a") -> set[str]:
    return {entry.name for entry in (tmp_path / name).iterdir() if entry.name[0] != "."}


def test_a_folder_comes_back_on_another_machine(tmp_path: Path, blobs: CountedBlobs) -> None:
    folder = made(tmp_path, "v1")
    address = machine(tmp_path, blobs, "here").put(folder)
    with machine(tmp_path, blobs, "there").use(address) as found:
        assert contents(found) == contents(folder)
    assert machine(tmp_path, blobs, "there").put(folder) == address


def test_it_is_fetched_once(tmp_path: Path, blobs: CountedBlobs) -> None:
    artifacts = machine(tmp_path, blobs)
    address = artifacts.put(made(tmp_path, "v1"))
    for _ in range(2):
        with machine(tmp_path, blobs).use(address):
            assert len(blobs.fetched) == 3  # the list and two files


def test_files_of_the_same_file_system_are_not_copied(tmp_path: Path, blobs: CountedBlobs) -> None:
    artifacts = machine(tmp_path, blobs)
    with artifacts.use(artifacts.put(made(tmp_path, "v1"))) as found:
        assert (found / "model.onnx").stat().st_nlink == 2


def test_many_at_once_fetch_it_once(tmp_path: Path, blobs: CountedBlobs) -> None:
    address = machine(tmp_path, blobs).put(made(tmp_path, "v1"))
    start, seen = threading.Barrier(8), []

    def one() -> None:
        start.wait()
        with machine(tmp_path, blobs).use(address) as found:
            seen.append(contents(found))

    threads = [threading.Thread(target=one) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) == 8
    assert len(blobs.fetched) == 3


def test_the_least_recently_used_goes_first(tmp_path: Path, blobs: CountedBlobs) -> None:
    artifacts = machine(tmp_path, blobs, limit=int(2.5 * SIZE))
    a, b, c = (artifacts.put(made(tmp_path, name)) for name in ("v1", "v2", "v3"))
    for number, address in enumerate((a, b, a)):
        with artifacts.use(address) as found:
            pass
        os.utime(found.parent, (number, number))
    with artifacts.use(c):
        pass
    assert cached(tmp_path) == {address.removeprefix("sha256:") for address in (a, c)}


def test_what_is_in_use_stays(tmp_path: Path, blobs: CountedBlobs) -> None:
    artifacts = machine(tmp_path, blobs, limit=SIZE)
    a, b = (artifacts.put(made(tmp_path, name)) for name in ("v1", "v2"))
    with artifacts.use(a) as used, machine(tmp_path, blobs, limit=SIZE).use(b):
        assert contents(used)
        assert len(cached(tmp_path)) == 2


def test_a_file_that_was_cut_off_is_fetched_again(tmp_path: Path, blobs: CountedBlobs) -> None:
    artifacts, folder = machine(tmp_path, blobs), made(tmp_path, "v1")
    address = artifacts.put(folder)
    with artifacts.use(address) as found:
        (found / "model.onnx").unlink()
        (found / "model.onnx").write_bytes(b"")
    with artifacts.use(address) as found:
        assert contents(found) == contents(folder)


def test_a_fetch_that_was_killed_leaves_nothing(tmp_path: Path, blobs: CountedBlobs) -> None:
    artifacts = machine(tmp_path, blobs)
    address = artifacts.put(made(tmp_path, "v1"))
    left = tmp_path / "a" / f".part-{address.removeprefix('sha256:')}"
    left.mkdir(parents=True)
    (left / "half").write_bytes(b"x")
    with artifacts.use(address):
        assert not left.exists()


def test_changed_content_is_refused(tmp_path: Path, blobs: CountedBlobs) -> None:
    artifacts, folder = machine(tmp_path, blobs), made(tmp_path, "v1")
    address = artifacts.put(folder)
    (entry,) = [f for f in manifest_of(folder).files if f.name == "model.onnx"]
    stored = tmp_path / "shared" / "blobs" / entry.sha256[:2] / entry.sha256
    stored.chmod(0o644)
    stored.write_bytes(b"xx")
    with pytest.raises(Rejected, match=r"model\.onnx arrived with other content"):
        artifacts.use(address).__enter__()
    assert cached(tmp_path) == set()


def test_what_nobody_stored_is_not_found(tmp_path: Path, blobs: CountedBlobs) -> None:
    with pytest.raises(NotFound, match="has no folders/0000"):
        machine(tmp_path, blobs).use(f"sha256:{'0' * 64}").__enter__()


@pytest.mark.parametrize("address", ["sha256:", "sha256:../../etc", f"sha256:{'G' * 64}"])
def test_a_wrong_address_is_refused(tmp_path: Path, blobs: CountedBlobs, address: str) -> None:
    with pytest.raises(Rejected, match="64 hexadecimal digits"):
        machine(tmp_path, blobs).use(address).__enter__()


@pytest.mark.parametrize("name", ["/etc/passwd", "../x", "a/../../x", ""])
def test_a_list_may_not_name_files_outside(name: str) -> None:
    listed = Manifest((FileEntry(name, 1, "0"),))
    with pytest.raises(Rejected, match="not a file of a version"):
        read_manifest(listed.to_bytes(), listed.digest)


def test_a_link_is_not_stored(tmp_path: Path, blobs: CountedBlobs) -> None:
    folder = made(tmp_path, "v1")
    (folder / "link").symlink_to("/etc/passwd")
    with pytest.raises(Rejected, match="link is a link"):
        machine(tmp_path, blobs).put(folder)


def test_a_place_that_cannot_be_written_is_asked_again(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    artifacts = machine(tmp_path, FolderBlobs(tmp_path / "file" / "below"))
    with pytest.raises(RetryLater, match="cannot be used"):
        artifacts.put(made(tmp_path, "v1"))


def test_without_a_shared_place_a_folder_is_used_as_it_is(tmp_path: Path) -> None:
    with ExitStack() as held:
        assert held.enter_context(IN_PLACE.use(str(tmp_path))) == tmp_path
        with pytest.raises(Rejected, match=r"registry\.artifacts"):
            held.enter_context(IN_PLACE.use(f"sha256:{'0' * 64}"))


def test_a_file_is_found_by_its_name_on_another_machine(
    tmp_path: Path, blobs: CountedBlobs
) -> None:
    report = tmp_path / "report.html"
    report.write_bytes(b"<p>")
    there = machine(tmp_path, blobs, "there")
    target = tmp_path / "reports" / "report.html"
    assert not there.bring("reports/report.html", target)
    machine(tmp_path, blobs, "here").keep("reports/report.html", report)
    assert there.bring("reports/report.html", target)
    assert target.read_bytes() == b"<p>"
    assert [path.name for path in target.parent.iterdir()] == ["report.html"]


def test_without_a_shared_place_a_file_is_only_here(tmp_path: Path) -> None:
    here = tmp_path / "report.html"
    here.write_bytes(b"<p>")
    IN_PLACE.keep("reports/report.html", here)
    assert IN_PLACE.bring("reports/report.html", here)
    assert not IN_PLACE.bring("reports/report.html", tmp_path / "other.html")
