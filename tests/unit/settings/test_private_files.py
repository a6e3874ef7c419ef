import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from driftloop_settings.private_files import private_folder, secret_file


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_folder_is_its_owners_alone_and_an_open_one_is_tightened(tmp_path: Path) -> None:
    (tmp_path / "open").mkdir(mode=0o755)
    for name in ("open", "new"):
        assert mode(private_folder(tmp_path / name)) == 0o700


def test_a_secret_is_made_once_and_read_by_its_owner(tmp_path: Path) -> None:
    path = tmp_path / "run" / "token"
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: secret_file(path), range(8)))
    text = path.read_text()
    assert len(text) == 64
    assert mode(path) == 0o600
    path.chmod(0o644)
    assert secret_file(path).read_text() == text
    assert mode(path) == 0o600
    assert [p.name for p in path.parent.iterdir()] == ["token"]
