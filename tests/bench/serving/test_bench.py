"""The bench's own arithmetic and its open-loop client."""

import shutil
import socketserver
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from load import build_open_loop, open_loop
from report import BEGIN, END, write
from results import CONNECTIONS, OPEN_CONNECTIONS, Cell, Record, Results, targets
from traffic import Wire, write_requests

ABOUT = {
    "date": "2026-01-01", "cpu": "none", "cores": 2, "memory_gib": 1, "python": "3", "rounds": 2,
    "seconds": 1.0, "versions": {"ray": "1"},
}  # fmt: skip


def record(subject: str, cell: Cell, number: int, rate: float, p99_us: float = 2.0) -> Record:
    return Record(subject, cell, number, rate, 1.0, p99_us, p99_us, 1.0, 0.0, 0, 0)


def results(*records: Record) -> Results:
    names = {"bare": "baseline", "direct": "driftloop", "mosec": "peer"}
    return Results(ABOUT, {name: name for name in names}, names, list(records))


def found(of: Results, beginning: str) -> bool | None:
    return next(t.reached for t in targets(of) if t.what.startswith(beginning))


def test_ratios_are_taken_within_a_round() -> None:
    """A machine that halves its speed between rounds does not change them."""
    cell = Cell("json-1", 16)
    slowing = results(
        record("bare", cell, 0, 100),
        record("direct", cell, 0, 400),
        record("bare", cell, 1, 50),
        record("direct", cell, 1, 200),
    )
    assert slowing.ratio("direct", "bare", cell) == pytest.approx(4)
    assert found(slowing, "direct, c = 16: × bare") is True


@pytest.mark.parametrize(("rate", "reached"), [(399, False), (400, True)])
def test_a_target_is_reached_from_its_bound_on(rate: float, reached: bool) -> None:
    cell = Cell("json-1", 16)
    measured = results(record("bare", cell, 0, 100), record("direct", cell, 0, rate))
    assert found(measured, "direct, c = 16: × bare") is reached


def test_direct_must_beat_the_best_peer() -> None:
    cell = Cell("json-1", 64)
    behind = results(record("direct", cell, 0, 100), record("mosec", cell, 0, 101))
    assert found(behind, "direct, c = 64: × best peer") is False


def test_what_was_not_measured_is_neither_reached_nor_missed() -> None:
    assert {target.reached for target in targets(results())} == {None}


def test_results_survive_their_file() -> None:
    tail = Cell("json-1", OPEN_CONNECTIONS, 0.5)
    before = results(record("bare", tail, 0, 100.0), record("direct", tail, 0, 5.0, p99_us=3.5))
    after = Results.from_dict(before.to_dict())
    assert after == before
    assert found(after, "direct, half of its capacity") is False


def test_only_what_is_between_the_markers_is_written(tmp_path: Path) -> None:
    page = tmp_path / "serving.md"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    cells = [Cell("json-1", connections) for connections in CONNECTIONS]
    write(results(*(record("bare", cell, 0, 1234.0) for cell in cells)), page)
    text = page.read_text()
    assert text.startswith("before\n")
    assert text.endswith(f"{END}\nafter\n")
    assert "1,234 (1.00)" in text
    assert "old" not in text
    assert (tmp_path / "serving.svg").is_file()


class Slow(socketserver.StreamRequestHandler):
    """Answers each request after 20 ms."""

    def handle(self) -> None:
        while self.rfile.readline():
            while self.rfile.readline().strip():
                pass
            time.sleep(0.02)
            self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")


@pytest.fixture
def slow_port() -> Iterator[int]:
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Slow) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")
def test_an_open_loop_counts_the_wait_for_a_connection(slow_port: int, tmp_path: Path) -> None:
    """Twice as many requests fall due as one connection can answer: a client that waits for its
    answer before it counts on would see 20 ms for each."""
    requests = write_requests(tmp_path / "requests", [Wire("/", b"")])
    program = build_open_loop(tmp_path)
    sample = open_loop(program, slow_port, requests, connections=1, rate=100, seconds=0.6)
    assert (sample.failed, sample.broken) == (0, 0)
    assert sample.requests > 30
    assert sample.p99_us > 150_000
