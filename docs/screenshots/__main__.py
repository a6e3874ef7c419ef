"""Makes the pictures of the console of README and docs: `make screenshots`.

python docs/screenshots                      of records that are made up (half a minute)
python docs/screenshots --url http://127.0.0.1:8001 --model car_loan     of a running stack
python docs/screenshots --demo               of `driftloop demo` at its moments (four minutes)
"""

import argparse
import contextlib
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

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


@dataclass(frozen=True, slots=True)
class Moment:
    """Of the demo. kind: of the records that tell it. reached: whether one is there; the picture is
    of the page `path`, with the record's id in it."""

    name: str
    kind: str
    reached: Callable[[Mapping[str, Any]], bool]
    path: str
    upto: str = ""

    def shot(self, url: str) -> Shot | None:
        try:
            answer = httpx.get(f"{url}/api/{self.kind}", params={"limit": 20}, timeout=30)
        except httpx.TransportError:  # the console is not there yet
            return None
        found = [one for one in answer.raise_for_status().json() if self.reached(one)]
        if not found:
            return None
        return Shot(self.name, self.path.format(id=found[0]["id"]), self.upto, most_height=1_600)


MOMENTS = (
    Moment("demo-alert", "alerts", lambda alert: alert["kind"] == "performance",
           "/models/car_loan?last=1h", "error"),
    Moment("demo-retrain", "retrains",
           lambda retrain: (retrain.get("progress") or {}).get("fraction", 0) > 0.1,
           "/retrains/{id}", "trigger"),
    Moment("demo-canary", "rollouts", lambda rollout: rollout.get("weight", 0) > 0,
           "/rollouts/{id}", "table-pairs"),
    Moment("demo-promoted", "rollouts", lambda one: one["state"] in ("watched", "promoted"),
           "/models/car_loan?last=1h", "error"),
)  # fmt: skip
"""In their order."""


def of_the_demo(browser: Browser) -> Iterator[Path]:
    """Run it, and take each moment when it is there. Raises SystemExit if it ended before one."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-u", "-m", "driftloop_cli", "demo", "--state-dir", folder]
        demo = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        assert demo.stdout is not None
        try:
            said = iter(demo.stdout.readline, "")
            links = (re.search(r"console: (http://\S+)/", line) for line in said)
            url = next((link[1] for link in links if link), "")
            threading.Thread(target=sys.stdout.writelines, args=(said,), daemon=True).start()
            for moment in MOMENTS:
                while (shot := moment.shot(url)) is None:
                    if demo.poll() is not None:
                        raise SystemExit(f"the demo ended before {moment.name}")
                    time.sleep(0.5)
                yield take(browser, url, shot)
            if demo.wait():
                raise SystemExit(f"the demo ended with {demo.returncode}")
        finally:
            demo.terminate()
            demo.wait()


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
    arguments.add_argument("--model", default="car_loan")
    arguments.add_argument("--demo", action="store_true", help="run the demo, and take its moments")
    given = arguments.parse_args()
    with contextlib.ExitStack() as stack:
        playwright = stack.enter_context(sync_playwright())
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
        stack.callback(browser.close)
        for path in of_the_demo(browser) if given.demo else of_pages(browser, given, stack):
            print(f"{path.relative_to(HERE.parents[1])}: {path.stat().st_size:,} bytes", flush=True)


def of_pages(
    browser: Browser, given: argparse.Namespace, stack: contextlib.ExitStack
) -> Iterator[Path]:
    if given.url:
        url, paths = given.url.rstrip("/"), of_a_stack(given.url.rstrip("/"), given.model)
    else:
        url, paths = stack.enter_context(made_up())
    for shot in shots(paths):
        yield take(browser, url, shot)


if __name__ == "__main__":
    main()
