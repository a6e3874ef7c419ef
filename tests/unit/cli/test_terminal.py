"""Text of others in our output, and what becomes of it in a narrow terminal or a pipe."""

from io import StringIO
from typing import Any
from unicodedata import bidirectional, category

import pytest
from hostile_texts import HOSTILE
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from driftloop_cli.status_view import status_view
from driftloop_cli.table_layout import Rows
from driftloop_cli.terminal import Terminal, printable, styled

TURNS = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}
ADDRESS = "http://a-long-name-of-a-host.example:8000/v2/models/a-model-with-a-long-name/infer"
IDS = ["01938b8e-7c1d-7f3a-9a1b-000000000001", "01938b8e-7c1d-7f3a-9a1b-000000000002"]


def shown(*objects: Any, terminal: bool = False, width: int = 80) -> str:
    file = StringIO()
    colours = "standard" if terminal else "auto"
    console = Terminal(file=file, force_terminal=terminal, width=width, color_system=colours)
    console.print(*objects)
    return file.getvalue()


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("terminal", [True, False])
def test_text_of_others_is_shown_as_it_is(text: str, terminal: bool) -> None:
    assert shown(text, terminal=terminal) == printable(text) + "\n"
    assert printable(text) in shown(styled(("error:", "red"), f" {text}"), terminal=terminal)
    assert printable(text).replace("\t", " ") in "\n".join(
        line.plain for line in Rows(("name", "n"), [(text, "1")]).lines(80)
    ).replace("\n", " ")


@given(st.text())
def test_nothing_in_a_text_steers_the_terminal(text: str) -> None:
    for character in printable(text):
        assert category(character) not in ("Cc", "Cs", "Zl", "Zp") or character in "\t\n"
        assert bidirectional(character) not in TURNS
    assert "\x1b" not in shown(text)
    shown(text).encode()


def test_what_is_piped_has_no_colours_and_no_line_ends_of_ours() -> None:
    long = f"{ADDRESS} {ADDRESS} {ADDRESS}"
    assert shown(styled((long, "red"))) == f"{long}\n"


ROLES = [f"replica:driftloop#replica#{suffix}" for suffix in ("1kx8a0q2", "1kx8a0q3")]


def document() -> dict[str, Any]:
    counts = {
        "served": 1_234_567, "lake_rows": 1_234_000, "retries": 12, "dropped": 5,
        "dropped_reasons": {"quota": 5}, "unexplained": 2, "labels": 700_000,
    }  # fmt: skip
    names = ["a-model-with-a-rather-long-name-1", "a-model-with-a-rather-long-name-2"]
    window = {"status": "judged", "rows": 5_000, "mean_loss": 0.1234, "performance": {}}
    split = {"stable": 0.95, "canary": 0.05}
    models = [
        {"name": name, "champion": 1, "challenger": 2, "split": split, "counts": counts,
         "window": window}
        for name in names
    ]  # fmt: skip
    alert = {
        "at": "2026-11-24T12:00:00", "model": names[0], "state": "open",
        "report": f"/reports/{IDS[0]}.html",
        "message": "the error of column taken [utc] rose from .05 to .09 in the last windows",
    }  # fmt: skip
    rollout = {
        "at": "2026-11-24T12:00:00", "model": names[1], "candidate": 2, "state": "running",
        "weight": 0.05, "reason": "waiting for labels of the canary's rows, of which few arrived",
    }  # fmt: skip
    return {
        "models": models,
        "roles": [{"name": n, "pid": 12345, "state": "running", "restarts": 0} for n in ROLES],
        "endpoints": {"inference": ADDRESS, "control": "http://127.0.0.1:8001"},
        "alerts": [alert],
        "retrains": [{**alert, "reason": alert["message"], "progress": {"message": "training"}}],
        "rollouts": [rollout],
    }


@pytest.mark.parametrize("width", [40, 80, 120, 300, None])
def test_names_addresses_and_ids_of_the_status_are_whole(width: int | None) -> None:
    lines = [line.plain for line in status_view(document(), width)]
    words = " ".join(lines).split()
    for whole in (ADDRESS, f"/reports/{IDS[0]}.html", *ROLES):
        assert whole in words
    assert "a-model-with-a-rather-long-name-1" in words
    assert "a-model-with-a-rather-long-name-2" in words
    assert "[utc]" in words
    assert not any("…" in line for line in lines)


def test_eighty_columns_are_enough_for_all_but_long_words() -> None:
    for line in status_view(document(), 80):
        assert cell_len(line.plain) <= 80 or ADDRESS in line.plain


def test_without_a_width_each_row_is_one_line() -> None:
    table = Rows(
        ("place", "reason"), [(place, "word " * 40) for place in IDS], frozenset({"reason"})
    )
    assert len(table.lines(None)) == 3
    assert len(table.lines(80)) > 3


@given(
    st.lists(st.tuples(st.text(max_size=50), st.text(max_size=200)), max_size=5),
    st.integers(1, 200),
)
def test_no_word_of_a_table_is_broken(rows: list[tuple[str, str]], width: int) -> None:
    lines = Rows(("name", "why"), rows, frozenset({"why"})).lines(width)
    words = " ".join(line.plain for line in lines).split()
    for row in rows:
        for text in row:
            for word in printable(text).split():
                assert word in words
