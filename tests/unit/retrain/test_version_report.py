"""A version's report: from the record alone, the same bytes again, each number traceable."""

import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest
import yaml
from report_record import report_record

from driftloop_retrain.job.job import RetrainContext, run_retrain
from driftloop_retrain.report.document import looked_up
from driftloop_retrain.report.record import pages, version_record


@pytest.fixture
def record() -> dict[str, Any]:
    return report_record()


def test_a_real_retrain_leaves_all_of_it(context: RetrainContext, ask: Callable[..., str]) -> None:
    assert run_retrain(context, ask()) == "succeeded"
    real = version_record(context.registry, context.store, "loans", 2)
    assert json.loads(json.dumps(real)) == real
    made = pages(real)
    for title in re.findall(r"^## (.*)$", pages(report_record())["report.md"], re.M):
        assert f"## {title}\n" in made["report.md"] or title in MAY_BE_MISSING
    numbers = Tags(made["report.html"]).numbers
    assert len(numbers) > 60
    check_numbers(real, numbers)


MAY_BE_MISSING = ("Rollout and approval", "Calibration and decision", "Thresholds")
"""Without a rollout, a step that helps, or two classes."""


class Tags(HTMLParser):
    """All elements with their attributes, and the text of `data`."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.numbers: list[tuple[str, str, str]] = []
        self._open: tuple[str, str] | None = None
        self.loose: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))
        if tag == "data":
            found = dict(attrs)
            self._open = (found["value"] or "", found["data-pointer"] or "")

    def handle_data(self, data: str) -> None:
        if self._open is not None:
            self.numbers.append((*self._open, data))
            self._open = None


def test_twenty_numbers_at_random_are_those_of_the_record(record: dict[str, Any]) -> None:
    check_numbers(record, Tags(pages(record)["report.html"]).numbers)


def check_numbers(record: dict[str, Any], numbers: list[tuple[str, str, str]]) -> None:
    dice = np.random.default_rng()
    for place in dice.choice(len(numbers), 20, replace=False):
        value, pointer, shown = numbers[place]
        in_record = looked_up(record, pointer)
        assert in_record == json.loads(value), pointer
        assert float(shown.replace(",", "")) == pytest.approx(in_record, rel=1e-5, abs=1e-12)


def test_a_number_without_its_place_is_in_the_record_as_text(record: dict[str, Any]) -> None:
    page = pages(record)["report.html"]
    body = re.sub(r"<style>.*?</style>|<data .*?</data>|<[^>]+>", " ", page, flags=re.S)
    known = json.dumps(record, ensure_ascii=False)
    for number in set(re.findall(r"(?<![\w.-])\d+\.\d+(?![\w.-])", body)):
        assert number in known, number


def test_the_same_record_gives_the_same_bytes(record: dict[str, Any]) -> None:
    first = pages(record)
    assert pages(json.loads(first["record.json"])) == first


def test_it_says_what_was_done_and_what_was_not(record: dict[str, Any]) -> None:
    page = pages(record)["report.md"]
    for title in (
        "Summary", "Trigger and evidence", "Data", "Labels", "New since the champion's data",
        "Checks and cleaning", "Search", "Candidates",
        "Against the champion", "Calibration and decision", "Behaviour on the held-out rows",
        "Thresholds", "Importance of columns", "Typical rows explained", "Groups",
        "Disagreement with the champion", "Latency, size and memory",
        "Optimised twin", "Rollout and approval", "What was not tested",
        "Code, environment and hashes",
    ):  # fmt: skip
        assert f"## {title}" in page
    assert "the error rose" in page
    assert "- **Outcome of the newest rollout**: promoted" in page
    assert "- **Approved by**: an operator" in page
    assert record["lineage"]["graph_sha256"] in page


def test_the_page_loads_nothing_and_has_a_sound_outline(record: dict[str, Any]) -> None:
    page = pages(record)["report.html"]
    tags = Tags(page)
    names = [name for name, _ in tags.seen]
    assert not {"script", "img", "link", "iframe"} & set(names)
    assert names.count("svg") == names.count("figcaption") == 3
    assert all(a["role"] == "img" and a["aria-label"] for name, a in tags.seen if name == "svg")
    assert "http" not in re.sub(r"<style>.*?</style>", "", page, flags=re.S).lower()
    assert ("html", {"lang": "en"}) in tags.seen
    assert names.count("h1") == names.count("main") == 1
    assert names.count("table") == names.count("caption")
    assert all(a.get("scope") == "col" for name, a in tags.seen if name == "th")


def test_a_chart_draws_what_the_record_says(record: dict[str, Any]) -> None:
    """The ROC's points, read back from the drawing."""
    page = pages(record)["report.html"]
    (roc,) = re.findall(r'<figcaption>ROC.*?<polyline points="(.*?)"', page, flags=re.S)
    drawn = [tuple(map(float, point.split(","))) for point in roc.split()]
    (x0, y0), (x1, y1) = drawn[0], drawn[-1]
    shown = [((x - x0) / (x1 - x0), (y - y0) / (y1 - y0)) for x, y in drawn[1:]]
    curve = record["outcome"]["evaluation"]["curve"]
    wanted = [(each["false_positive_rate"], each["recall"]) for each in curve]
    assert np.allclose(shown, wanted, atol=0.002)


def test_users_texts_are_no_markup(record: dict[str, Any]) -> None:
    record["lineage"]["reason"] = "<script>alert(1)</script> | **bold**"
    made = pages(record)
    assert "<script>" not in made["report.html"]
    assert "&lt;script&gt;" in made["report.html"]
    assert "**bold**" not in made["report.md"]


def test_the_model_card_is_what_hugging_face_reads(record: dict[str, Any]) -> None:
    _, head, body = pages(record)["README.md"].split("---\n", 2)
    card = yaml.safe_load(head)
    assert card["pipeline_tag"] == "tabular-classification"
    (result,) = card["model-index"][0]["results"]
    assert {m["type"]: m["value"] for m in result["metrics"]} == record["outcome"]["metrics"]
    assert body.strip().startswith("# loans, version 2")


def test_a_version_from_outside_has_a_short_report(context: RetrainContext) -> None:
    record = version_record(context.registry, context.store, "loans", 1)
    assert "deployed" in pages(record)["report.md"]
