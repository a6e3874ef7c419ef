"""The results as a person reads them: tables and a plot, written into the docs."""

import statistics
from collections.abc import Sequence
from pathlib import Path

from results import CONNECTIONS, OPEN_CONNECTIONS, Cell, Results, targets

BEGIN, END = "<!-- serving:begin -->", "<!-- serving:end -->"
COLOURS = {"baseline": "#9aa0a6", "driftloop": "#1a73e8", "peer": "#c5a05a"}


def write(results: Results, page: Path) -> None:
    """Put the tables between the markers of `page`, and the plot beside it."""
    text = page.read_text()
    if BEGIN not in text or END not in text:
        raise SystemExit(f"{page} has no {BEGIN} … {END}")
    before, _, rest = text.partition(BEGIN)
    after = rest.partition(END)[2]
    page.write_text(f"{before}{BEGIN}\n{markdown(results)}\n{END}{after}")
    plot(results, page.with_suffix(".svg"))


def markdown(results: Results) -> str:
    about = results.about
    versions = ", ".join(f"{name} {number}" for name, number in about["versions"].items())
    machine = f"{about['cpu']}, {about['cores']} cores, {about['memory_gib']} GiB"
    parts = [
        f"{about['date']}; {machine}; Python {about['python']}, {versions}. Medians of"
        f" {about['rounds']} round{'s' * (about['rounds'] > 1)} of {about['seconds']:g} s each.",
        "![requests per second](serving.svg)",
        "**One row of JSON, closed loop**: requests per second (× bare uvicorn), and CPU µs per"
        " request of all processes that take part in an answer.",
        _capacity(results),
        "**Sizes and forms**, 16 connections: rows per second.",
        _sizes(results),
        "**Open loop**: latency in µs, counted from the moment a request was due.",
        _open(results),
        "**Capture**, the replica's path in a plain process, on and off every other second: "
        "requests per second.",
        _capture(results),
        "**Targets**",
        _targets(results),
    ]
    if any(results.lost.values()):
        lost = ", ".join(
            f"{results.labels[n]} {count:,}" for n, count in results.lost.items() if count
        )
        parts.append(f"Answers that capture dropped (counted, its quota was full): {lost}.")
    if results.skipped:
        reasons = (f"{results.labels[name]}: {why}" for name, why in results.skipped.items())
        parts.append(
            "Not measured, or not in each round: "
            + "; ".join(" ".join(r.split())[:200] for r in reasons)
            + "."
        )
    return "\n\n".join(parts)


def _capacity(results: Results) -> str:
    rows = []
    for name in results.measured(["baseline", "driftloop", "peer"]):
        row = [results.labels[name]]
        for connections in CONNECTIONS:
            cell = Cell("json-1", connections)
            rate, ratio = results.median(name, cell, "rate"), results.ratio(name, "bare", cell)
            row.append("–" if rate is None else f"{rate:,.0f} ({_short(ratio)})")
        for connections in CONNECTIONS:
            cost = results.median(name, Cell("json-1", connections), "serving_cpu_us")
            row.append("–" if cost is None else f"{cost:,.0f}")
        rows.append(row)
    heads = [f"c = {n}" for n in CONNECTIONS]
    return _table(["", *heads, *(f"CPU, {head}" for head in heads)], rows)


def _short(ratio: float | None) -> str:
    return "–" if ratio is None else f"{ratio:.2f}"


def _sizes(results: Results) -> str:
    traffics = (("1 row", "1", 1.0), ("32 rows", "32", 32.0), ("256 rows", "256", 256.0))
    rows = []
    if results.in_process:
        alone = [f"{statistics.median(results.in_process[n]):,.0f}" for _, n, _ in traffics]
        rows.append(["ONNX Runtime in process, batches", *alone, "–"])
    for name in results.measured(["baseline", "driftloop"]):
        for form in ("json", "binary"):
            row = []
            for _, number, count in traffics:
                rate = results.median(name, Cell(f"{form}-{number}", 16), "rate")
                row.append("–" if rate is None else f"{rate * count:,.0f}")
            mixed = results.median(name, Cell(f"{form}-mixed", 16), "rate")
            row.append("–" if mixed is None else f"{mixed:,.0f}")
            if row[1] != "–":
                rows.append([f"{results.labels[name]}, {form}", *row])
    return _table(["", *(label for label, _, _ in traffics), "mixed sizes: requests"], rows)


def _open(results: Results) -> str:
    rows = []
    for name in results.measured(["baseline", "driftloop"]):
        for share in (0.5, 0.8):
            cell = Cell("json-1", OPEN_CONNECTIONS, share)
            values = [
                results.median(name, cell, w) for w in ("rate", "p50_us", "p99_us", "p999_us")
            ]
            if None not in values:
                numbers = [f"{value:,.0f}" for value in values if value is not None]
                rows.append([results.labels[name], f"{share:.0%}", *numbers])
    heads = ["", "of its capacity", "requests per second", "p50", "p99", "p99.9"]
    return _table(heads, rows)


def _capture(results: Results) -> str:
    rows = []
    for connections in CONNECTIONS:
        cell = Cell("json-1", connections)
        kept, none = (results.median(n, cell, "rate") for n in ("replica", "replica-uncaptured"))
        rate = results.ratio("replica", "replica-uncaptured", cell)
        cpu = results.ratio("replica", "replica-uncaptured", cell, "serving_cpu_us")
        if kept and none and rate and cpu:
            row = [f"c = {connections}", f"{kept:,.0f}", f"{none:,.0f}"]
            low, high = results.ratio_between("replica", "replica-uncaptured", cell)
            between = f"{1 - rate:+.1%} ({1 - high:+.1%} to {1 - low:+.1%})"
            rows.append([*row, between, f"{cpu - 1:+.1%}"])
    return _table(["", "on", "off", "fewer requests (95 %)", "more CPU per request"], rows)


def _targets(results: Results) -> str:
    words = {True: "reached", False: "**missed**", None: "–"}
    rows = [[t.what, t.wanted, t.shown, words[t.reached]] for t in targets(results)]
    return _table(["", "wanted", "found", ""], rows)


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def plot(results: Results, path: Path) -> None:
    """Bars of requests per second at each concurrency."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "driftloop", "font.size": 9})
    from matplotlib import pyplot

    names = results.measured(["baseline", "driftloop", "peer"])[::-1]
    figure, axes = pyplot.subplots(1, 3, figsize=(10, 0.36 * len(names) + 1), sharey=True)
    for axis, connections in zip(axes, CONNECTIONS, strict=True):
        rates = [results.median(n, Cell("json-1", connections), "rate") or 0 for n in names]
        bars = axis.barh(
            [results.labels[n] for n in names],
            rates,
            color=[COLOURS[results.kinds[n]] for n in names],
        )
        axis.bar_label(bars, [f"{rate:,.0f}" for rate in rates], padding=2, fontsize=8)
        axis.set_xlim(right=max(rates) * 1.3)
        axis.set_title(f"{connections} connection{'s' * (connections > 1)}", fontsize=10)
        axis.spines[["top", "right"]].set_visible(False)
    figure.supxlabel("requests per second, one row of JSON", fontsize=9)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)
