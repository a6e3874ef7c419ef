"""What the roles logged: lines of every kind as events, merged by time, and filtered."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner

from driftloop_cli.log_events import LogEvent, events, merged, parse
from driftloop_cli.log_files import LogFile, Logs, log_files
from driftloop_cli.main import app
from driftloop_contracts.errors import Rejected, Unavailable

NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)


def own(event: str, at: datetime = NOW, **fields: object) -> str:
    return json.dumps({**fields, "event": event, "level": "info", "timestamp": at.isoformat()})


def one(line: str) -> LogEvent:
    found = parse(line, "ray", NOW)
    assert found is not None
    return found


def test_a_line_of_ours_keeps_its_fields() -> None:
    found = parse(own("monitor.decision", model="m", rows=3), "monitor", None)
    assert found == LogEvent("monitor", NOW, "info", "monitor.decision", {"model": "m", "rows": 3})
    assert json.loads(found.to_json()) == {
        "at": NOW.isoformat(), "role": "monitor", "level": "info", "event": "monitor.decision",
        "model": "m", "rows": 3,
    }  # fmt: skip
    line = "2026-11-29 12:00:00.000 monitor    info     monitor.decision model=m rows=3"
    assert found.to_line() == line


@pytest.mark.parametrize(
    ("line", "level", "event"),
    [
        ("2026-11-29 12:00:01,250\tINFO usage_lib.py:448 -- \x1b[36mdisabled\x1b[39m",
         "info", "usage_lib.py:448 -- disabled"),
        ("[2026-11-29 12:00:01,250] WARN Broker is fenced (kafka)", "warning",
         "Broker is fenced (kafka)"),
        ("2026-11-29 12:00:01.250 [error    ] role.died   code=1", "error", "role.died   code=1"),
    ],
)  # fmt: skip
def test_times_and_levels_of_other_programs_are_understood(
    line: str, level: str, event: str
) -> None:
    found = one(line)
    assert (found.level, found.event) == (level, event)
    local = datetime(2026, 11, 29, 12, 0, 1, 250_000).astimezone()
    assert found.at == local


def test_a_line_without_a_time_belongs_to_the_one_before() -> None:
    lines = ["first", own("a"), "Traceback (most recent call last):", '  File "x"', "", "{broken"]
    found = list(events(lines, "gateway"))
    assert [event.at for event in found] == [None, NOW, NOW, NOW, NOW]
    assert found[-1].event == "{broken"


@pytest.mark.parametrize("line", ["", "   ", "\x1b[0m", "2026-99-99 12:00:00 x", "{}", "[1, 2]"])
def test_no_line_is_an_error(line: str) -> None:
    found = parse(line, "ray", None)
    assert found is None or found.at is None


def test_one_event_is_one_line_whatever_is_in_it() -> None:
    exception = "Traceback (most recent call last):\n  File\nValueError: no\n"
    found = parse(own("x", reason="two\nlines", exception=exception, long="y" * 2_000), "r", None)
    assert found is not None
    line = found.to_line()
    assert "\n" not in line
    assert 'exception="ValueError: no"' in line
    assert len(line) < 800
    assert "y" * 2_000 in found.to_json()


def test_events_of_roles_are_merged_by_time() -> None:
    first = list(events([own("a1"), own("a2", NOW + timedelta(seconds=2)), "more"], "a"))
    second = list(events([own("b1", NOW + timedelta(seconds=1))], "b"))
    assert [e.event for e in merged([*first, *second])] == ["a1", "b1", "a2", "more"]


@pytest.fixture
def state_dir(tmp_path: Path) -> Path:
    (tmp_path / "logs").mkdir()
    now = datetime.now(UTC)
    monitor = [own("old", now - timedelta(hours=3)), own("monitor.decision", now, model="m")]
    (tmp_path / "logs" / "monitor.log").write_text("\n".join(monitor) + "\n")
    late = own("archiver.flushed", now + timedelta(seconds=1), rows=4)
    (tmp_path / "logs" / "archiver.log").write_text(late + "\n" + '{"half')
    return tmp_path


def test_a_file_is_read_on_from_its_last_whole_line(state_dir: Path) -> None:
    path = state_dir / "logs" / "archiver.log"
    file = LogFile("archiver", path)
    assert [event.event for event in file.read()] == ["archiver.flushed"]
    with path.open("a") as log:
        log.write(' a line"}\n' + own("next") + "\n")
    assert [event.event for event in file.read()] == ['{"half a line"}', "next"]
    assert file.read() == []
    path.write_text(own("anew") + "\n")
    assert [event.event for event in file.read()] == ["anew"]
    path.unlink()
    assert file.read() == []


def test_of_a_large_file_the_end_is_read(tmp_path: Path) -> None:
    path = tmp_path / "x.log"
    path.write_text("".join(own(f"event-{n}") + "\n" for n in range(1_000)))
    found = LogFile("x", path).read(last_bytes=1_000)
    assert 0 < len(found) < 20
    assert found[-1].event == "event-999"


def test_what_comes_is_followed(state_dir: Path) -> None:
    logs = Logs(log_files(state_dir, "monitor"), lambda event: True)
    logs.read()
    turns = iter((True, False))

    def wait() -> bool:
        with (state_dir / "logs" / "monitor.log").open("a") as log:
            log.write(own("new") + "\n")
        return next(turns)

    assert [event.event for event in logs.follow(wait)] == ["new"]


def shown(state_dir: Path, *words: str) -> list[str]:
    done = CliRunner().invoke(app, ["logs", *words, "--state-dir", str(state_dir)])
    assert done.exit_code == 0, done.output
    return done.stdout.splitlines()


def test_the_command_filters_by_role_model_and_time(state_dir: Path) -> None:
    assert [line.split()[4] for line in shown(state_dir)] == [
        "old", "monitor.decision", "archiver.flushed",
    ]  # fmt: skip
    assert len(shown(state_dir, "--since", "1h")) == 2
    assert len(shown(state_dir, "monitor")) == 2
    (line,) = shown(state_dir, "--model", "m", "--json")
    assert json.loads(line)["role"] == "monitor"
    assert len(shown(state_dir, "--limit", "1")) == 1


def test_an_unknown_role_names_those_with_a_log(state_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(Rejected, match="archiver, monitor"):
        log_files(state_dir, "nobody")
    with pytest.raises(Unavailable, match="driftloop up"):
        log_files(tmp_path / "elsewhere")
