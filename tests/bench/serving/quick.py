"""The replica's path against bare uvicorn + ONNX Runtime, each in one plain process; about half a
minute.

Usage: python tests/bench/serving/quick.py [SECONDS] [ROUNDS] [--binary]
"""

import statistics
import sys
import tempfile
from pathlib import Path

from graph import write_graph
from load import SERVER_CORE, closed_loop, require_tools
from process import Server, cpu_seconds, family, wait_for_answer
from traffic import DISTINCT, arrays, v2_binary, v2_json, write_requests

from driftloop_settings.ports import free_port

HERE = Path(__file__).parent
CONNECTIONS = (1, 16, 64)


def main() -> None:
    require_tools()
    numbers = [float(word) for word in sys.argv[1:] if not word.startswith("-")]
    seconds, rounds = ([*numbers, 3.0] if len(numbers) < 2 else numbers)[0], 1
    if len(numbers) > 1:
        rounds = int(numbers[1])
    with tempfile.TemporaryDirectory(prefix="dlb-") as scratch:
        folder = Path(scratch)
        graph = write_graph(folder)
        rows = arrays([1] * DISTINCT)
        json_file = write_requests(folder / "json", map(v2_json, rows))
        traffic = {"bare": json_file, "replica": json_file}
        if "--binary" in sys.argv:
            traffic["replica"] = write_requests(folder / "binary", map(v2_binary, rows))
        servers = {name: (free_port(), HERE / "servers" / f"{name}.py") for name in traffic}
        running: dict[str, Server] = {}
        try:
            for name, (port, script) in servers.items():
                argv = [sys.executable, str(script), str(graph), str(port)]
                running[name] = Server(argv, folder / f"{name}.log", SERVER_CORE)
                wait_for_answer(running[name], port, v2_json(rows[0]).raw(), 60)
                closed_loop(port, traffic[name], 16, 1)  # warm
            print("| c | bare req/s | CPU µs | replica req/s | CPU µs | ratio | p50 · p99 µs |")
            print("|---|---|---|---|---|---|---|")
            for connections in CONNECTIONS:
                seen: dict[str, list[tuple[float, float, float, float]]] = {n: [] for n in servers}
                for _ in range(rounds):
                    for name, (port, _) in servers.items():
                        before = cpu_seconds(family(running[name].pid))
                        sample = closed_loop(port, traffic[name], connections, seconds)
                        cpu = cpu_seconds(family(running[name].pid)) - before
                        if sample.failed or sample.broken:
                            raise SystemExit(f"{name}: {sample}")
                        cost = cpu / sample.requests * 1e6
                        seen[name].append((sample.rate, cost, sample.p50_us, sample.p99_us))
                bare, replica = (
                    [statistics.median(column) for column in zip(*seen[name], strict=True)]
                    for name in ("bare", "replica")
                )
                print(
                    f"| {connections} | {bare[0]:,.0f} | {bare[1]:.0f} | {replica[0]:,.0f}"
                    f" | {replica[1]:.0f} | {replica[0] / bare[0]:.2f}"
                    f" | {replica[2]:.0f} · {replica[3]:.0f} |",
                    flush=True,
                )
        finally:
            for server in running.values():
                server.stop()


if __name__ == "__main__":
    main()
