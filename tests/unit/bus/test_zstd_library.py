import zipfile
from pathlib import Path

import pytest

from driftloop_bus import zstd_library
from driftloop_bus.zstd_library import zstd_options


@pytest.fixture
def class_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(zstd_library.platform, "system", lambda: "Linux")
    monkeypatch.setattr(zstd_library.platform, "machine", lambda: "x86_64")
    jar = tmp_path / "zstd-jni-1.5.jar"
    with zipfile.ZipFile(jar, "w") as archive:
        archive.writestr("linux/amd64/libzstd-jni-1.5.so", b"library")
    return f"{tmp_path / 'kafka.jar'}:{jar}"


def test_the_library_is_unpacked_once_and_named(class_path: str, tmp_path: Path) -> None:
    (option,) = zstd_options(class_path, tmp_path)
    name, _, library = option.partition("=")
    assert (name, Path(library).read_bytes()) == ("-DZstdNativePath", b"library")
    before = Path(library).stat().st_ino
    assert zstd_options(class_path, tmp_path) == [option]
    assert Path(library).stat().st_ino == before


def test_without_room_the_broker_unpacks_it_by_itself(class_path: str, tmp_path: Path) -> None:
    assert zstd_options(class_path, tmp_path / "missing") == []
    assert zstd_options("kafka.jar", tmp_path) == []


def test_a_machine_that_the_jar_does_not_know_is_left_to_the_broker(
    class_path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(zstd_library.platform, "machine", lambda: "m68k")
    assert zstd_options(class_path, tmp_path) == []
    assert list(tmp_path.glob(".*")) == []
