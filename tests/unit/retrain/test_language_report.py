"""The page of a fine-tune, which holds prompts and answers of others."""

from html import escape
from html.parser import HTMLParser

import pytest
from hostile_texts import HOSTILE

from driftloop_retrain.language.report import report


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.seen: set[str] = set()

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.seen.add(tag)


def outcome(text: str) -> dict[str, object]:
    sample = dict.fromkeys(("prompt", "champion", "candidate", "wanted"), text)
    check = {"name": text, "champion": 1.0, "candidate": 2.0, "passed": False, "reason": text}
    return {
        "gate": {"verdict": "rejected", "checks": [check]},
        "champion_metrics": {text: 1.0}, "metrics": {text: 2.0}, "samples": [sample],
        "trained_rows": 1, "holdout_rows": 1, "family": text, "rounds": 1, "rows": 2, "data": text,
        "kinds": {text: 1}, "dropped": {text: 1},
    }  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE)
def test_texts_of_others_are_no_markup(text: str) -> None:
    page = report("m", outcome(text))
    tags = Tags()
    tags.feed(page)
    assert tags.seen <= {
        "meta", "title", "style", "h1", "h2", "p", "b", "table", "tr", "th", "td",
    }  # fmt: skip
    assert page.count(escape(text)) >= 10
