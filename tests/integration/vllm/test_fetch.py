"""Weights out of an object store, by a real S3 API."""

import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.request import Request, urlopen

import pytest
from s3_server import environment, put, s3_server, store

from driftloop_contracts.errors import Rejected, RetryLater
from driftloop_gateway.intake_language import read_language
from driftloop_settings import Settings
from driftloop_settings.ports import free_port
from driftloop_vllm.fetch import local_folder

pytestmark = pytest.mark.integration

BUCKET = "s3://models"
FILES = {"config.json": b"{}", "model.safetensors": bytes(3 << 20), "1_Pooling/config.json": b"[]"}


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with s3_server() as endpoint:
        store(endpoint).create_dir("models")
        yield endpoint


@pytest.fixture(autouse=True)
def reached(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in environment(endpoint).items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def uri(endpoint: str, tmp_path: Path) -> str:
    """Of a prefix of its own, that holds `FILES`."""
    prefix = f"models/{tmp_path.name}"
    for name, content in FILES.items():
        put(endpoint, f"{prefix}/{name}", content)
    return f"s3://{prefix}"


def files(folder: Path) -> dict[str, bytes]:
    return {
        str(file.relative_to(folder)): file.read_bytes()
        for file in folder.rglob("*")
        if file.is_file()
    }


def test_a_prefix_is_copied_with_its_folders_once(endpoint: str, uri: str, tmp_path: Path) -> None:
    folder = local_folder(uri, tmp_path / "cache", [BUCKET])
    assert files(folder) == FILES
    put(endpoint, f"{uri.removeprefix('s3://')}/config.json", b"changed")
    assert local_folder(uri, tmp_path / "cache", [BUCKET]) == folder
    assert files(folder) == FILES
    assert list((tmp_path / "cache").iterdir()) == [folder]


def test_whoever_wants_the_same_at_once_gets_it_whole(uri: str, tmp_path: Path) -> None:
    def fetched(_: int) -> dict[str, bytes]:
        return files(local_folder(uri, tmp_path / "cache", [BUCKET]))

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(fetched, range(8))) == [FILES] * 8
    assert len(list((tmp_path / "cache").iterdir())) == 1


@pytest.mark.parametrize(
    "root", ["s3://other", "s3://model", "s3://models/elsewhere", "/models", ""]
)
def test_only_what_lies_under_a_root_is_fetched(uri: str, root: str, tmp_path: Path) -> None:
    with pytest.raises(Rejected, match=r"llm\.roots"):
        local_folder(uri, tmp_path / "cache", [root])
    with pytest.raises(Rejected, match=r"llm\.roots"):
        local_folder(f"{BUCKET}/mine/../{tmp_path.name}", tmp_path / "cache", [f"{BUCKET}/mine"])
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("place", ["models/missing", "no-such-bucket/x", "models/empty"])
def test_a_prefix_without_files_is_said_and_is_not_taken_for_fetched(
    endpoint: str, place: str, tmp_path: Path
) -> None:
    store(endpoint).create_dir("models/empty")
    for _ in range(2):
        with pytest.raises(Rejected, match=f"there is no file under s3://{place}"):
            local_folder(
                f"s3://{place}", tmp_path / "cache", ["s3://models", "s3://no-such-bucket"]
            )
    assert not any((tmp_path / "cache").iterdir())


def test_a_prefix_that_gets_its_files_late_is_fetched_then(endpoint: str, tmp_path: Path) -> None:
    with pytest.raises(Rejected, match="there is no file"):
        local_folder("s3://models/late", tmp_path / "cache", [BUCKET])
    put(endpoint, "models/late/config.json", b"{}")
    assert files(local_folder("s3://models/late", tmp_path / "cache", [BUCKET]))


def test_a_store_that_is_away_is_asked_again_later(
    uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_port()}")
    with pytest.raises(RetryLater, match=f"{uri} could not be read: .*onnect"):
        local_folder(uri, tmp_path / "cache", [BUCKET])
    assert not any((tmp_path / "cache").iterdir())


def test_wrong_credentials_are_asked_again_later_and_are_not_told(
    uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that looks at them: moto's does from a request on that it is told."""
    with s3_server() as strict:
        store(strict).create_dir("models")
        put(strict, "models/x/config.json", b"{}")
        asked = Request(f"{strict}/moto-api/reset-auth", b"0", {"content-type": "text/plain"})
        urlopen(asked).close()
        monkeypatch.setenv("AWS_ENDPOINT_URL", strict)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAWRONGKEY")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong-secret")
        with pytest.raises(RetryLater, match=r"could not be read: .*(ACCESS|INVALID)") as refused:
            local_folder("s3://models/x", tmp_path / "cache", [BUCKET])
    for secret in ("AKIAWRONGKEY", "wrong-secret"):
        assert secret not in str(refused.value)


@pytest.mark.parametrize("place", ["key:hush@models/x", "models/x?endpoint_override=evil"])
def test_credentials_and_options_in_the_address_are_refused_untold(
    place: str, tmp_path: Path
) -> None:
    with pytest.raises(Rejected, match="which come from the environment") as refused:
        local_folder(f"s3://{place}", tmp_path / "cache", [f"s3://{place}", BUCKET])
    assert "hush" not in str(refused.value)
    assert "evil" not in str(refused.value)


def test_a_process_that_is_killed_while_it_copies_leaves_nothing_that_counts(
    uri: str, tmp_path: Path
) -> None:
    code = (
        "import os, sys, pathlib; from pyarrow import fs\n"
        "from driftloop_vllm import fetch\n"
        "copy = fs.copy_files\n"
        "def die(*words, **more):\n"
        "    copy(*words, **more); os._exit(9)\n"
        "fs.copy_files = die\n"
        "fetch.local_folder(sys.argv[1], pathlib.Path(sys.argv[2]), [sys.argv[3]])\n"
    )
    words = [sys.executable, "-c", code, uri, str(tmp_path / "cache"), BUCKET]
    assert subprocess.run(words, env=os.environ, check=False).returncode == 9
    assert files(local_folder(uri, tmp_path / "cache", [BUCKET])) == FILES


@pytest.mark.language  # needs vLLM installed, and starts none
def test_a_deploy_takes_weights_from_under_a_root_only(endpoint: str, tmp_path: Path) -> None:
    no_tensors = (2).to_bytes(8, "little") + b"{}"
    for name in ("config.json", "tokenizer.json", "model.safetensors"):
        put(endpoint, f"models/whole/{name}", b"{}" if name.endswith(".json") else no_tensors)

    def taken(uri: str) -> Path:
        spec = {"name": "m", "runtime": "vllm", "task": "generation", "output": "text"}
        document = {**spec, "model_uri": uri}
        settings = Settings(llm={"roots": ["s3://models/whole"]})
        return read_language(document, tmp_path, None, tmp_path / "fetched", settings).folder

    assert sorted(files(taken("s3://models/whole"))) == [
        "config.json",
        "model.safetensors",
        "tokenizer.json",
    ]
    copied = taken("s3://models/whole")
    for outside in (f"file://{copied.parent.parent}", str(copied.parent.parent), "s3://models/x"):
        with pytest.raises(Rejected, match=r"llm\.roots"):
            taken(outside)
