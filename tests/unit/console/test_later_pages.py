"""The pages Data and Conversations, what is kept for charts, and a console that only shows."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from console_records import (
    NOW,
    REFERENCE_SKETCH,
    deploy,
    deploy_language,
    fill,
    sketch,
    window,
)  # fmt: skip
from fastapi.testclient import TestClient
from lake_records import (
    START,
    id_of_request,
    label_message,
    prediction_message,
    prediction_rows,
)  # fmt: skip

from driftloop_console.views.data_page import result_note, result_table
from driftloop_console.views.drift_page import shown_windows, sketch_charts
from driftloop_console.views.language_page import conversations_sql, conversations_table
from driftloop_console.views.slices import label_facts, slices_table
from driftloop_contracts.errors import Rejected
from driftloop_contracts.events import prediction_schema
from driftloop_contracts.language import SIGNATURE
from driftloop_gateway.app import GatewayContext, make_app
from driftloop_lake.bounded_query import Answer
from driftloop_lake.views import Version, open_views
from driftloop_lake.writer import LakeWriter
from driftloop_monitoring.archive.bus_records import read_record
from driftloop_settings import Settings
from driftloop_settings.storage_sections import ControlSettings
from driftloop_store import Store, open_store

NOT_USED: Any = None


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = open_store(f"sqlite:///{tmp_path / 'store.db'}")
    yield opened
    opened.close()


def client(store: Store, state_dir: Path, **control: Any) -> TestClient:
    settings = Settings(state_dir=state_dir, control=ControlSettings(**control))
    context = GatewayContext(
        settings, store, NOT_USED, NOT_USED, NOT_USED, lambda: None, lambda: NOW, NOT_USED
    )
    headers = {"accept": "text/html"}
    return TestClient(make_app(context), base_url="http://127.0.0.1", headers=headers)


def test_a_query_runs_once_the_page_is_open_and_is_exported(store: Store, tmp_path: Path) -> None:
    deploy(store, "loan", 1)
    settings = Settings(state_dir=tmp_path)
    rows = prediction_rows(0, 9, rows=1)
    LakeWriter(settings.lake_uri).append([read_record(prediction_message(rows, 1, model="loan"))])
    asked = client(store, tmp_path, query_rows=5, query_s=300)
    url = "/data?model=loan&sql=SELECT+row,+job+FROM+predictions"
    page = asked.get(url).text
    assert "section=table-result" in page
    assert "sse-connect" not in page
    assert "baker" not in page
    result = asked.get(f"{url}&section=table-result").text
    assert "baker" in result
    assert "The first 5 rows; there are more" in result
    found = asked.get(f"{url}&format=json&table=result").json()
    assert found == [{"row": 0, "job": "baker"}] * 5
    columns = asked.get(f"{url}&format=json&table=columns").json()
    assert {"view": "predictions", "column": "job", "type": "string"} in columns


def test_a_query_that_is_refused_says_why_on_its_page(store: Store, tmp_path: Path) -> None:
    deploy(store, "loan", 1)
    asked = client(store, tmp_path)
    answer = asked.get("/data?model=loan&section=table-columns")
    assert (answer.status_code, "no prediction of" in answer.text) == (200, True)
    assert asked.get("/data?model=other").status_code == 404
    assert asked.get("/data?sql=" + "x" * 10_001).status_code == 400
    assert asked.get("/data?section=nothing").status_code == 404


def test_a_page_of_another_site_may_link_but_not_start_a_query(
    store: Store, tmp_path: Path
) -> None:
    deploy(store, "loan", 1)
    asked = client(store, tmp_path)
    headers = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"}
    refused = asked.get("/data?sql=SELECT+1&section=table-result", headers=headers)
    assert (refused.status_code, "may link" in refused.text) == (403, True)
    followed = asked.get("/data?sql=SELECT+1", headers={**headers, "sec-fetch-mode": "navigate"})
    assert followed.status_code == 200


def test_values_of_a_result_are_those_of_the_command(tmp_path: Path) -> None:
    rows = pa.table({"a": [float("nan"), 1.5], "b": [[1, 2], None], "c": [2**60, -1]})
    answer = Answer(rows, False, Version(3, 2), 0.5)
    assert result_table(answer).records() == [
        {"a": None, "b": [1, 2], "c": 2**60}, {"a": 1.5, "b": None, "c": -1},
    ]  # fmt: skip
    assert result_table(answer).to_csv().splitlines()[1] == f',"[1, 2]",{2**60}'
    assert result_note(answer) == "2 rows (predictions@3 labels@2, 0.5 s)."


def test_conversations_have_the_correction_beside_the_answer() -> None:
    row = {
        "predicted_at": NOW, "version": 2, "arm": "stable", "asked": "Hi?", "text": "No.",
        "finish_reason": "stop", "rating": "0.25", "correction": '"Yes."', "preferred": None,
        "prediction_id": "p",
    }  # fmt: skip
    (found,) = conversations_table([row]).records()
    assert (found["asked"], found["answered"], found["wanted"]) == ("Hi?", "No.", "Yes.")
    assert found["rating"] == 0.25
    with pytest.raises(Rejected, match="show="):
        conversations_sql("good'; DROP", NOW, NOW)


def test_the_newest_conversations_are_read_with_the_latest_opinions(tmp_path: Path) -> None:
    messages = '[{"role": "user", "content": "Hi?"}]'
    answers = [(messages, "No."), ("not JSON", "Yes."), (messages, "Hm."), (messages, "")]
    rows = pa.Table.from_pylist([
        {
            **prediction_rows(n, n, rows=1).to_pylist()[0],
            "in_messages": asked, "in_operation": "chat.completions" if text else "embeddings",
            "out_text": text, "out_finish_reason": "stop",
        }
        for n, (asked, text) in enumerate(answers)
    ], schema=prediction_schema(SIGNATURE))  # fmt: skip
    at = NOW.isoformat()
    opinions = ((0, "label", 0), (0, "label", 1), (0, "correction", "Hello."), (1, "label", 0))
    labels = [
        label_message(
            offset, prediction_id=id_of_request(row), metric=metric, value=value,
            received_at=(NOW + timedelta(seconds=offset)).isoformat(), observed_at=at,
        )
        for offset, (row, metric, value) in enumerate(opinions)
    ]  # fmt: skip
    lake = str(tmp_path)
    written = [prediction_message(rows, 1, model="chat"), *labels]
    LakeWriter(lake).append([read_record(record) for record in written])
    views = open_views(lake, "chat", output="text")

    def found(show: str) -> list[tuple[object, ...]]:
        sql = conversations_sql(show, START, START + timedelta(days=1))
        table = conversations_table([r for b in views.ask(sql) for r in b.to_pylist()])
        return [(r["asked"], r["answered"], r["rating"], r["wanted"]) for r in table.rows]

    assert found("all") == [
        ("Hi?", "Hm.", None, None), (None, "Yes.", 0.0, None), ("Hi?", "No.", 1.0, "Hello."),
    ]  # fmt: skip
    assert [len(found(show)) for show in ("rated", "bad", "corrected")] == [2, 1, 1]


def test_a_page_of_conversations_shows_the_judge_and_the_fine_tune(
    store: Store, tmp_path: Path
) -> None:
    deploy_language(store, "chat")
    asked = client(store, tmp_path)
    page = asked.get("/models/chat/conversations").text
    assert "0.900, at least 0.800" in page
    assert [text in page for text in ("Hi?", "No.", "Hello!", "Hello.")] == [True] * 4
    rows = asked.get("/models/chat/conversations?section=table-conversations").text
    assert "no prediction of" in rows
    assert asked.get("/models/chat/conversations?show=x").status_code == 400
    deploy(store, "table", 1)
    assert asked.get("/models/table/conversations").status_code == 404


def test_sketches_become_small_multiples_with_the_reference(store: Store) -> None:
    for number in range(3):
        store.add_sketch(window("loan", number), 1, sketch(number))
    store.put_reference_sketch("loan", 1, REFERENCE_SKETCH)
    kept = store.sketches([f"loan-w{number}" for number in range(3)])
    assert kept == store.between("sketches", "loan")
    income, job = sketch_charts(kept, store.reference_sketches("loan", {1, 2}))
    assert (income.title, job.title) == ("income: moved 0.30", "job: moved 0.10")
    assert [series.label for series in income.series][:3] == [
        "Reference, 5 %", "Reference, 95 %", "Reference, median",
    ]  # fmt: skip
    assert income.series[3].values == (2.0, 1.0, 0.0)
    assert [series.label for series in job.series] == [
        "Reference: baker", "baker", "Reference: smith", "smith",
    ]  # fmt: skip
    store.add_sketch(window("loan", -1), 1, {}, keep=2)
    assert len(store.between("sketches", "loan")) == 2
    store.erase_sketches("loan")
    assert (store.between("sketches", "loan"), store.reference_sketches("loan", {1})) == ([], {})


def test_of_many_windows_an_even_part_is_charted() -> None:
    windows = [window("loan", number).to_dict() for number in range(200)]
    found = shown_windows([{**windows[0], "kind": "labels"}, *windows])
    assert (found[0], len(found)) == ("loan-w0", 50)
    assert shown_windows([]) == []


def test_slices_are_listed_worst_first() -> None:
    tests = {
        "slice old": {"rows": 100, "loss": 10.0, "log_e": 0.0, "alert": None},
        "slice new": {"rows": 100, "loss": 30.0, "log_e": 2.0, "alert": None},
        "miss_rate": {"rows": 50, "loss": 5.0, "log_e": 9.0, "alert": {"mean_loss": 0.2}},
    }
    normal = {"slice old": 0.1, "slice new": 0.1}
    rows = slices_table({"tests": tests}, normal).rows
    assert [(row["slice"], row["state"]) for row in rows] == [
        ("miss_rate", "alert"), ("new", "calm"), ("old", "calm"),
    ]  # fmt: skip
    assert rows[1]["rise"] == pytest.approx(0.2)


def test_label_delay_and_coverage_are_told() -> None:
    facts = label_facts({"label_delays_s": [60.0, 120.0, 3_600.0, None]}, [], 30.0)
    assert facts["Judged rows that had a label"] == "75 %"
    assert facts["From prediction to label, median"] == "2 min"
    assert facts["From prediction to label, 90 %"] == "2 min"
    assert set(label_facts({}, [], None).values()) == {None}


def test_the_error_is_compared_with_an_earlier_time(store: Store, tmp_path: Path) -> None:
    deploy(store, "loan", 1)
    for number in range(48):
        store.add_window(window("loan", number))
    asked = client(store, tmp_path)
    assert "1 d before" not in asked.get("/models/loan?last=12h").text
    page = asked.get("/models/loan?last=12h&compare=1d").text
    assert "&#34;label&#34;:&#34;1 d before&#34;" in page
    assert asked.get("/models/loan?compare=x").status_code == 400


def test_the_error_so_far_has_its_confidence_sequence_and_windows_what_was_expected(
    store: Store, tmp_path: Path
) -> None:
    deploy(store, "loan", 1)
    for number in range(3):
        store.add_window(window("loan", number))
    asked = client(store, tmp_path)
    page = asked.get("/models/loan?last=12h").text
    for label in ("Error so far", "95 % at all times, low", "Expected before labels"):
        assert f"&#34;label&#34;:&#34;{label}&#34;" in page
    newest = asked.get("/models/loan?format=json&table=windows").json()[0]
    shown = [newest[name] for name in ("expected", "expected_low", "expected_high")]
    assert shown == pytest.approx([0.082, 0.07, 0.094])
    before = replace(window("loan", -1), mean_loss=None, labelled=0)
    store.add_window(replace(before, performance={}))
    assert asked.get("/?format=json").json()[0]["estimated"] == pytest.approx(0.0824, abs=0.01)
    assert "The error is expected to be" in asked.get("/models/loan").text


def test_a_console_that_only_shows_has_no_buttons_and_refuses_calls(
    store: Store, tmp_path: Path
) -> None:
    assert len(list(fill(store))) == 6
    shown = client(store, tmp_path, read_only=True)
    for path in ("/rollouts/canary-rollout", "/retrains/retraining-retrain", "/incidents/incident"):
        page = shown.get(path)
        assert "hx-post" not in page.text
        assert "control.read_only" in page.text
    for path in ("/rollouts/canary-rollout/abort", "/api/rollouts/canary-rollout/abort"):
        refused = shown.post(path, json={"seen": "running"})
        assert (refused.status_code, "only shows" in refused.text) == (403, True)
    assert shown.delete(
        "/api/models/healthy", headers={"content-type": "application/json"}
    ).status_code == 403  # fmt: skip
    assert store.rollout("canary-rollout")["state"] == "running"


def test_the_times_of_a_range_and_of_a_comparison_are_in_one_form() -> None:
    from driftloop_console.time_range import compared

    assert compared({"compare": "7d"}) == timedelta(days=7)
    assert compared({}) is None
