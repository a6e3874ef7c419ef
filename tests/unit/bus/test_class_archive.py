"""When the broker's Java maps an archive of classes, and when it writes one."""

from pathlib import Path

import pytest

from driftloop_bus.class_archive import archive_options


@pytest.fixture
def java(tmp_path: Path) -> Path:
    base = tmp_path / "jre" / "lib" / "server" / "classes.jsa"
    base.parent.mkdir(parents=True)
    base.touch()
    return tmp_path / "jre" / "bin" / "java"


def archive_of(options: list[str]) -> tuple[str, Path]:
    kind, _, path = options[0].partition("=")
    return kind, Path(path)


def test_the_first_broker_writes_the_archive_and_later_ones_use_it(
    java: Path, tmp_path: Path
) -> None:
    kind, archive = archive_of(archive_options(java, "a.jar", tmp_path))
    assert kind == "-XX:ArchiveClassesAtExit"
    archive.write_bytes(b"\xa8\xab\x0b\xf0...")
    assert archive_of(archive_options(java, "a.jar", tmp_path)) == (
        "-XX:SharedArchiveFile",
        archive,
    )


def test_an_archive_whose_writing_was_killed_is_written_again(java: Path, tmp_path: Path) -> None:
    _, archive = archive_of(archive_options(java, "a.jar", tmp_path))
    archive.write_bytes(bytes(64))
    kind, again = archive_of(archive_options(java, "a.jar", tmp_path))
    assert (kind, again) == ("-XX:ArchiveClassesAtExit", archive)


def test_another_class_path_has_an_archive_of_its_own(java: Path, tmp_path: Path) -> None:
    first, second = (archive_options(java, path, tmp_path)[0] for path in ("a.jar", "b.jar"))
    assert first != second


def test_a_java_without_an_archive_of_its_own_classes_gets_none(tmp_path: Path) -> None:
    assert archive_options(tmp_path / "bin" / "java", "a.jar", tmp_path) == []
