"""Makes the pictures of the console of README and docs: `make screenshots`.

    python docs/screenshots                      of records that are made up (half a minute)
    python docs/screenshots --url http://127.0.0.1:8001 --model loan     of a running stack

Those of a stack are taken of what is there: run it while `make demo ARGS=--keep` tells its story.
"""

import argparse
import contextlib
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import httpx
from playwright.sync_api import Browser, sync_playwright

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parents[1] / "tests"))
MOST_BYTES = 150_000
FLAGS = ["--no-sandbox", "--disable-gpu", "--force-color-profile=srgb"]


@dataclass(frozen=True, slots=True)
class Shot:
    """path: of the page. upto: the section that is the last one in the picture."""

    name: str
    path: str
    upto: str = ""
    dark: bool = False
    width: int = 1340
    most_height: int = 900


def shots(paths: Mapping[str, str]) -> list[Shot]:
    """paths: of what exists, by kind."""
    model = paths["model"]
    found = [
        Shot("fleet", "/"),
        Shot("model", f"/models/{model}?last=7d", "drift", most_height=1_640),
        Shot("fleet-dark", "/", dark=True),
        Shot("phone", f"/incidents/{paths.get('incidents', '')}", width=390, most_height=844),
        Shot("rollout", f"/rollouts/{paths.get('rollouts', '')}", most_height=1_600),
        Shot("retrain", f"/retrains/{paths.get('retrains', '')}"),
        Shot("decisions", "/decisions"),
    ]
    needed = {"phone": "incidents", "rollout": "rollouts", "retrain": "retrains"}
    return [shot for shot in found if needed.get(shot.name, "model") in paths]


def take(browser: Browser, url: str, shot: Shot) -> Path:
    context = browser.new_context(
        base_url=url,
        viewport={"width": shot.width, "height": 800},
        color_scheme="dark" if shot.dark else "light",
    )
    page = context.new_page()
    page.goto(shot.path)
    page.wait_for_selector("h1")
    page.wait_for_function(
        "[...document.querySelectorAll('.chart')].every(box => box.querySelector('canvas'))"
    )
    last = page.locator(f"#{shot.upto}" if shot.upto else "#main").bounding_box()
    assert last is not None
    height = min(shot.most_height, int(last["y"] + last["height"]) + 16)
    path = HERE / f"{shot.name}.png"
    page.set_viewport_size({"width": shot.width, "height": height})
    page.wait_for_timeout(400)  # charts are drawn anew
    page.screenshot(path=path)
    context.close()
    smaller(path)
    return path


def smaller(path: Path) -> None:
    """With at most 128 colours, which a page of text and lines does not miss."""
    from PIL import Image

    with Image.open(path) as picture:
        few = picture.convert("RGB").quantize(128)
        few.save(path, optimize=True)
    if path.stat().st_size > MOST_BYTES:
        raise SystemExit(f"{path.name} has {path.stat().st_size:,} bytes; allowed: {MOST_BYTES:,}")


def of_a_stack(url: str, model: str) -> dict[str, str]:
    """The newest record of each kind."""
    paths = {"model": model}
    for kind in ("rollouts", "retrains", "incidents"):
        found = httpx.get(f"{url}/api/{kind}", params={"model": model, "limit": 1}).json()
        found = [one for one in found if one.get("model") == model]
        if found:
            paths[kind] = found[0]["id"]
    return paths


@contextlib.contextmanager
def made_up() -> Iterator[tuple[str, dict[str, str]]]:
    """A console over records of `made_up_fleet`, and the paths of some of them."""
    from console_server import console
    from made_up_fleet import fill

    from driftloop_store import open_store

    with tempfile.TemporaryDirectory() as folder:
        store = open_store(f"sqlite:///{folder}/store.db")
        paths = fill(store, datetime.now(UTC))
        with console(store, Path(folder)) as url:
            yield url, paths
        store.close()


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--url", help="of a running console; without it, records are made up")
    arguments.add_argument("--model", default="loan")
    given = arguments.parse_args()
    with contextlib.ExitStack() as stack:
        if given.url:
            url, paths = given.url.rstrip("/"), of_a_stack(given.url.rstrip("/"), given.model)
        else:
            url, paths = stack.enter_context(made_up())
        playwright = stack.enter_context(sync_playwright())
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
        for shot in shots(paths):
            path = take(browser, url, shot)
            print(f"{path.relative_to(HERE.parents[1])}: {path.stat().st_size:,} bytes")
        browser.close()


if __name__ == "__main__":
    main()
