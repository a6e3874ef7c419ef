"""The console in Debian's Chromium: pages, the policy, accessibility, live changes, actions."""

import csv
import io
import os
import shutil
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlencode

import pytest
from console_records import (
    alert,
    deploy,
    deploy_language,
    fill,
    running_retrain,
    running_rollout,
)
from console_server import console
from incident_cases import incident_of
from lake_records import prediction_message, prediction_rows
from playwright.sync_api import Browser, Page, expect, sync_playwright
from report_record import report_record

from driftloop_alerts.signed_links import Offer, signer_of
from driftloop_contracts.alert import AlertEvent
from driftloop_contracts.incident import Cause, IncidentChange
from driftloop_lake.writer import LakeWriter
from driftloop_monitoring.archive.bus_records import read_record
from driftloop_retrain.report.record import pages
from driftloop_rollout.machine import Rollout
from driftloop_settings import Settings
from driftloop_store import Store, open_store

pytestmark = pytest.mark.integration

CHROMIUM = shutil.which("chromium")
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip
AXE = Path(__file__).parents[2] / "console_browser" / "axe.min.js"
PAGES = (
    "/", "/models/alert", "/models/watching", "/models/unwatched", "/models/canary",
    "/models/canary/versions/2", "/rollouts/canary-rollout", "/retrains/retraining-retrain",
    "/incidents", "/incidents/incident", "/decisions", "/audit", "/settings", "/system",
    "/models/gone", "/models/chat/conversations", "/data?sql=SELECT+job,+age+FROM+predictions",
    "/models/watching?last=24h&compare=1d",
)  # fmt: skip
VISIBLE_MS = 2_000


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if CHROMIUM is None:
        message = "these tests need Debian's chromium: apt-get install chromium"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield launched
        launched.close()


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    opened = open_store(f"sqlite:///{tmp_path_factory.mktemp('store') / 'store.db'}")
    assert len(list(fill(opened, end=datetime.now(UTC)))) == 6
    deploy_language(opened, "chat", datetime.now(UTC))
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("state")


@pytest.fixture(scope="module")
def url(store: Store, state: Path) -> Iterator[str]:
    rows = prediction_rows(0, 9, rows=1)
    written = LakeWriter(Settings(state_dir=state).lake_uri)
    written.append([read_record(prediction_message(rows, 1, model="alert"))])
    with console(store, state) as address:
        yield address


@pytest.fixture
def page(browser: Browser, url: str) -> Iterator[Page]:
    """With nothing on its console log in the end, which the policy's refusals would be on."""
    context = browser.new_context(base_url=url)
    opened = context.new_page()
    said: list[str] = []
    opened.on("console", lambda message: said.append(message.text))
    opened.on("pageerror", lambda error: said.append(str(error)))
    yield opened
    context.close()
    assert [text for text in said if "404" not in text and "409" not in text] == []


def axe(page: Page) -> list[str]:
    """What axe finds; asked through the debugger, which the policy does not hold for."""
    page.evaluate(AXE.read_text())
    found = page.evaluate("() => axe.run(document)")
    return [
        f"{violation['id']}: {node['html'][:200]}"
        for violation in found["violations"]
        for node in violation["nodes"]
    ]


@pytest.mark.parametrize("path", PAGES)
def test_a_page_opens_in_few_requests_and_is_accessible(page: Page, path: str, url: str) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(path)
    expect(page.locator("h1")).to_be_visible()
    expect(page.locator("[aria-busy]")).to_have_count(0, timeout=60_000)  # what comes later
    charts = page.locator(".chart")
    for number in range(charts.count()):
        expect(charts.nth(number).locator("canvas")).to_be_attached()
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        assert axe(page) == []
    assert len([a for a in asked if not a.startswith("data:")]) <= 5
    assert all(a.startswith((url, "data:")) for a in asked)


def test_the_report_of_a_version_opens_from_a_file_and_is_accessible(
    browser: Browser, tmp_path: Path
) -> None:
    file = tmp_path / "report.html"
    file.write_text(pages(report_record())["report.html"])
    opened = browser.new_page()
    asked: list[str] = []
    opened.on("request", lambda request: asked.append(request.url))
    opened.goto(file.as_uri())
    expect(opened.get_by_role("heading", name="What was not tested")).to_be_visible()
    assert axe(opened) == []
    assert asked == [file.as_uri()]
    opened.close()


def test_a_change_in_the_store_is_seen_within_two_seconds(page: Page, store: Store) -> None:
    page.goto("/")
    row = page.locator("tr", has=page.get_by_role("link", name="healthy", exact=True))
    expect(row.locator(".state").last).to_have_text("healthy")
    page.wait_for_timeout(1_500)  # the stream is open, and its first poll is over
    page.evaluate("window.stayed = true")
    store.raise_alert(alert("healthy", message="raised while the page is open"))
    began = time.monotonic()
    expect(row.locator(".state").last).to_have_text("alert", timeout=20_000)
    took_s = time.monotonic() - began
    store.change_alert("healthy-alert", lambda found: found.after(AlertEvent.CLOSE))
    expect(row.locator(".state").last).to_have_text("healthy", timeout=20_000)
    assert page.evaluate("window.stayed"), "the page was loaded anew"
    assert took_s * 1_000 <= VISIBLE_MS


def test_an_operator_steers_a_rollout_and_a_second_one_is_told(
    page: Page, browser: Browser, url: str
) -> None:
    second = browser.new_context(base_url=url).new_page()
    page.goto("/rollouts/canary-rollout")
    second.goto("/rollouts/canary-rollout")
    stale = second.locator("#actions-body").inner_html()
    page.get_by_label("Reason (optional)").fill("lunch")
    page.get_by_role("button", name="Pause").click()
    expect(page.locator("#told")).to_have_text("Done: an operator (console) paused it.")
    expect(page.locator("#facts")).to_contain_text("paused", timeout=20_000)
    expect(page.get_by_role("button", name="Resume")).to_be_visible()
    expect(second.get_by_role("button", name="Resume")).to_be_visible(timeout=20_000)
    second.evaluate(
        "html => { const box = document.querySelector('#actions-body'); box.innerHTML = html;"
        " htmx.process(box); }",
        stale,
    )
    second.get_by_role("button", name="Pause").click()
    expect(second.locator("#told")).to_contain_text("Nothing was done: an operator")
    second.context.close()
    page.get_by_role("button", name="Resume").click()
    expect(page.locator("#facts")).to_contain_text("running", timeout=20_000)


@pytest.mark.parametrize(
    ("button", "done"),
    [("Promote", "promoted it without waiting for proof"), ("Abort", "aborted it")],
)
def test_what_ends_a_rollout_asks_first(page: Page, store: Store, button: str, done: str) -> None:
    deploy(store, button.lower(), 1, 2)
    rollout = running_rollout(store, button.lower())
    page.goto(f"/rollouts/{rollout.id}")
    page.once("dialog", lambda dialog: dialog.dismiss())
    page.get_by_role("button", name=button).click()
    assert store.rollout(rollout.id)["state"] == "running"
    page.once("dialog", lambda dialog: dialog.accept())
    page.get_by_role("button", name=button).click()
    expect(page.locator("#told")).to_have_text(f"Done: an operator (console) {done}.")
    expect(page.get_by_role("button", name=button)).to_have_count(0, timeout=20_000)


def test_a_link_of_a_message_asks_acts_once_and_says_what_happened(
    page: Page, store: Store, state: Path
) -> None:
    deploy(store, "approved", 1, 2)
    waiting = running_rollout(store, "approved")
    record = store.rollout(waiting.id)
    waits = {**waiting.to_body(), "awaits": "promote"}
    store.save_rollout(waiting.id, record["revision"], "running", waits)
    signer, moves = signer_of(Settings(state_dir=state)), len(waiting.history)
    expires = int(time.time()) + 600
    approve, back = (
        f"/act?token={signer.token(Offer(waiting.id, moves, 'promote', event, 'night', expires))}"
        for event in ("approve", "abort")
    )
    page.goto(approve)
    expect(page.locator("h1")).to_have_text("Approve the promotion?")
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        assert axe(page) == []
    assert len(Rollout.from_record(store.rollout(waiting.id)).history) == moves, "opened, not used"
    page.get_by_label("Reason (optional)").fill("seen at night")
    page.get_by_role("button", name="Approve the promotion").click()
    done = "Done: a link on the route night approved what waited for a person."
    expect(page.locator("#told")).to_have_text(done)
    page.get_by_role("button", name="Approve the promotion").click()
    expect(page.locator("#told")).to_contain_text(
        "This was done already: a link on the route night approved"
    )
    page.get_by_role("link", name="The evidence").click()
    expect(page.locator("h1")).to_contain_text("approved")
    for late in (back, approve):
        page.goto(late)
        expect(page.locator("h1")).to_have_text("Nothing was done")
        assert axe(page) == []
        expect(page.get_by_role("button", name="Roll back")).to_have_count(0)


def test_an_incident_is_acknowledged_on_a_phone(page: Page, store: Store) -> None:
    opened = incident_of(datetime.now(UTC), id="at-night", model="", cause=Cause.ROLE)
    store.write_incidents([IncidentChange(opened, "opened")])
    page.set_viewport_size({"width": 390, "height": 800})
    page.goto("/incidents/at-night")
    page.get_by_role("button", name="Acknowledge").click()
    expect(page.locator("#told")).to_contain_text("Done")
    expect(page.locator("#actions")).to_contain_text("It is acknowledged", timeout=20_000)


def test_a_retrain_is_cancelled(page: Page, store: Store) -> None:
    deploy(store, "cancelled", 1)
    asked = running_retrain(store, "cancelled")
    page.on("dialog", lambda dialog: dialog.accept())
    page.goto(f"/retrains/{asked.id}")
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator("#told")).to_contain_text("Done")
    expect(page.get_by_role("button", name="Cancel")).to_have_count(0, timeout=20_000)


def test_who_only_reads_sees_no_buttons_and_is_refused(
    browser: Browser, store: Store, state: Path
) -> None:
    with console(store, state, read_only=True) as address:
        context = browser.new_context(base_url=address)
        page = context.new_page()
        for path in ("/rollouts/canary-rollout", "/retrains/retraining-retrain",
                     "/incidents/incident"):  # fmt: skip
            page.goto(path)
            expect(page.locator("#actions")).to_contain_text("This console only shows")
            expect(page.locator("#actions button")).to_have_count(0)
        answer = context.request.post(
            "/rollouts/canary-rollout/pause", data={"seen": "running", "reason": ""}
        )
        assert answer.status == 403
        assert "read_only" in answer.text()
        context.close()


def test_a_permalink_shows_the_same_time_sort_and_page_again(page: Page, url: str) -> None:
    until = datetime.now(UTC) - timedelta(hours=10)
    since = until - timedelta(hours=12)
    ends = urlencode({"from": since.isoformat(), "to": until.isoformat()})
    page.goto(f"/models/watching?{ends}&sort_windows=rows")
    shown = page.locator("#table-windows tbody tr")
    rows = shown.all_inner_texts()
    assert 11 <= len(rows) <= 13
    again = page.context.new_page()
    again.goto(page.url)
    assert again.locator("#table-windows tbody tr").all_inner_texts() == rows
    again.close()


def test_dark_mode_is_kept_and_charts_follow(page: Page) -> None:
    page.emulate_media(color_scheme="light")
    page.goto("/models/watching")
    shown = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(shown)
    page.get_by_role("button", name="Switch between dark and light").click()
    assert page.evaluate(shown) != light
    page.reload()
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    assert page.evaluate(shown) != light


def test_a_sorted_table_is_exported_as_it_is_shown(page: Page) -> None:
    page.goto("/models/watching?last=7d")
    page.locator("#table-windows").get_by_role("link", name="Error", exact=True).click()
    expect(page.locator("#table-windows th[aria-sort=descending]")).to_contain_text("Error")
    assert "sort_windows=-error" in page.url
    assert "last=7d" in page.url
    with page.expect_download() as download:
        page.locator("#table-windows").get_by_role("link", name="CSV").click()
    rows = list(csv.DictReader(io.StringIO(Path(download.value.path()).read_text())))
    errors = [float(row["error"]) for row in rows]
    assert (len(errors), errors) == (48, sorted(errors, reverse=True))


def test_a_query_is_asked_linked_to_and_exported(page: Page, url: str) -> None:
    page.goto("/data")
    page.get_by_label("Model").select_option("alert")
    page.get_by_label("One SELECT in DuckDB's SQL").fill("SELECT job, row FROM predictions")
    page.get_by_role("button", name="Run").click()
    result = page.locator("#table-result")
    expect(result.get_by_role("cell", name="baker").first).to_be_visible(timeout=60_000)
    assert "sql=SELECT+job" in page.url.replace("%20", "+")
    assert "model=alert" in page.url
    with page.expect_download() as download:
        result.get_by_role("link", name="CSV").click()
    rows = Path(download.value.path()).read_text().splitlines()
    assert rows == ["job,row", *["baker,0"] * 10]
    page.get_by_label("One SELECT in DuckDB's SQL").fill("DROP VIEW predictions")
    page.get_by_role("button", name="Run").click()
    expect(result).to_contain_text("write one SELECT", timeout=60_000)
    assert "baker" not in page.evaluate("JSON.stringify([{...localStorage}, {...sessionStorage}])")


def test_a_phone_shows_what_matters_without_scrolling_sideways(page: Page) -> None:
    page.set_viewport_size({"width": 390, "height": 800})
    for path in ("/", "/models/alert", "/rollouts/canary-rollout", "/data", "/incidents/incident"):
        page.goto(path)
        width = page.evaluate("document.documentElement.scrollWidth")
        assert width <= 390, path


def test_the_keyboard_reaches_the_content_first(page: Page) -> None:
    page.goto("/")
    page.keyboard.press("Tab")
    expect(page.locator(".skip")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#main")).to_be_focused()


def test_a_chart_is_saved_as_a_picture(page: Page) -> None:
    page.goto("/models/watching")
    with page.expect_download() as download:
        page.get_by_role("button", name="Save as PNG").first.click()
    assert Path(download.value.path()).read_bytes().startswith(b"\x89PNG")


def test_the_policy_refuses_what_a_record_might_inject(browser: Browser, url: str) -> None:
    page = browser.new_context(base_url=url).new_page()
    refused: list[str] = []
    page.on("console", lambda message: refused.append(message.text))
    page.goto("/models/alert")
    page.evaluate(
        "document.body.append(Object.assign(document.createElement('script'),"
        " { textContent: 'window.injected = 1' }))"
    )
    assert page.evaluate("window.injected === undefined")
    assert "Content Security Policy" in refused[0]
    page.context.close()
