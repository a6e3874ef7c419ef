"""What is deleted of the files that machines share, and what stays."""

import os
import time
from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from driftloop_artifacts import Artifacts
from driftloop_artifacts.blobs import FolderBlobs
from driftloop_artifacts.garbage import Garbage, delete, find_garbage
from driftloop_artifacts.local_cache import LocalCache
from driftloop_contracts.errors import NotFound, Rejected

DAY_S = 86_400.0


class Place:
    def __init__(self, root: Path) -> None:
        self.root, self.shared = root, root / "shared"
        self.blobs = FolderBlobs(self.shared)
        self.artifacts = Artifacts((self.blobs, LocalCache(root / "cache", 1 << 30)))

    def put(self, name: str, **files: str) -> str:
        folder = self.root / name
        folder.mkdir()
        for file, content in files.items():
            (folder / file).write_text(content)
        return self.artifacts.put(folder)

    def age(self, days: float) -> None:
        """Everything that is stored now was stored so long ago."""
        then = time.time() - days * DAY_S
        for path in self.shared.rglob("*"):
            os.utime(path, (then, then))

    def garbage(self, *addresses: str, names: Collection[str] = ()) -> Garbage:
        before = datetime.now(UTC) - timedelta(days=7)
        return find_garbage(self.blobs, addresses, lambda name: name in names, before)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_what_nothing_names_goes_and_what_it_shares_with_others_stays(place: Place) -> None:
    kept = place.put("kept", graph="same", weights="new")
    gone = place.put("gone", graph="same", weights="old")
    place.age(days=8)
    found = place.garbage(kept)
    assert (len(found.folders), len(found.files), found.named) == (1, 1, ())
    delete(place.blobs, found)
    with place.artifacts.use(kept) as folder:
        assert (folder / "weights").read_text() == "new"
    with pytest.raises(NotFound), place.artifacts.use(gone):
        pass
    assert place.garbage(kept).all == ()


def test_what_was_stored_lately_stays(place: Place) -> None:
    place.put("new", graph="g")
    place.age(days=6)
    assert place.garbage().all == ()


def test_a_folder_that_is_being_stored_keeps_the_files_that_were_there(place: Place) -> None:
    """Nothing names it yet, and its files are old."""
    place.put("old", graph="same")
    place.age(days=30)
    again = place.put("again", graph="same")
    assert place.garbage().all == ()
    with place.artifacts.use(again) as folder:
        assert (folder / "graph").is_file()


def test_files_under_names_stay_while_they_are_named(place: Place, tmp_path: Path) -> None:
    (tmp_path / "report").write_text("r")
    for name in ("reports/a.html", "reports/b.html"):
        place.artifacts.keep(name, tmp_path / "report")
    place.age(days=8)
    found = place.garbage(names={"reports/a.html"})
    assert [file.key for file in found.all] == ["named/reports/b.html"]


def test_nothing_is_deleted_if_a_list_cannot_be_read(place: Place) -> None:
    kept = place.put("kept", graph="g")
    (listed,) = (place.shared / "folders").iterdir()
    listed.chmod(0o644)
    listed.write_text("cut off")
    place.age(days=8)
    with pytest.raises(Rejected):
        place.garbage(kept)
