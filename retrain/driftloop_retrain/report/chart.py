"""A chart as inline SVG: no script, no font, no address; the same bytes for the same numbers."""

from html import escape

from driftloop_retrain.report.document import Chart, Line

WIDTH, HEIGHT, LEFT, BELOW, AROUND = 360, 300, 46, 40, 12
COLOURS = ("#0b5cad", "#b3470b", "#2f6b2f")
DASHES = ("", "6 3", "2 3")
"""Lines differ by more than their colour."""

Range = tuple[float, float]


def svg_chart(chart: Chart) -> str:
    lines = [line for line in chart.lines if line.points]
    if not lines:
        return ""
    x, y = _ranges(chart, lines)
    drawn = "".join(_line(line, number, x, y) for number, line in enumerate(lines))
    if chart.diagonal:
        drawn = _segment((0, 0), (1, 1), x, y, "#767676", "3 3") + drawn
    names = "; ".join(line.name for line in lines)
    return (
        f"<figure><figcaption>{escape(chart.title)}</figcaption>"
        f'<svg role="img" aria-label="{escape(chart.said)}" width="{WIDTH}" height="{HEIGHT}" '
        f'viewBox="0 0 {WIDTH} {HEIGHT}">{_axes(chart, x, y)}{drawn}{_legend(lines)}</svg>'
        + (f"<p>{escape(names)}</p>" if len(lines) == 1 and names else "")
        + "</figure>\n"
    )


def _ranges(chart: Chart, lines: list[Line]) -> tuple[Range, Range]:
    if chart.unit:
        return (0.0, 1.0), (0.0, 1.0)
    xs = [x for line in lines for x, _ in line.points]
    ys = [y for line in lines for _, y in line.points]
    left, right = min(xs), max(xs)
    return (left, right if right > left else left + 1), (0.0, max(ys) or 1.0)


def _at(point: tuple[float, float], x: Range, y: Range) -> tuple[float, float]:
    """In pixels."""
    across = (point[0] - x[0]) / (x[1] - x[0])
    up = (point[1] - y[0]) / (y[1] - y[0])
    return (
        round(LEFT + across * (WIDTH - LEFT - AROUND), 1),
        round(HEIGHT - BELOW - up * (HEIGHT - BELOW - AROUND), 1),
    )


def _line(line: Line, number: int, x: Range, y: Range) -> str:
    colour, dash = COLOURS[number % 3], DASHES[number % 3]
    points = [_at(point, x, y) for point in line.points]
    if line.bars:
        width = max(1.0, round((WIDTH - LEFT - AROUND) / len(points) - 1, 1))
        return "".join(
            f'<rect x="{round(a - width / 2, 1)}" y="{b}" width="{width}" '
            f'height="{round(HEIGHT - BELOW - b, 1)}" fill="{colour}"/>'
            for a, b in points
        )
    path = " ".join(f"{a},{b}" for a, b in points)
    whiskers = "".join(
        _segment((px, low), (px, high), x, y, colour, "")
        for (px, _), (low, high) in zip(line.points, line.ends, strict=False)
    )
    dashed = f' stroke-dasharray="{dash}"' if dash else ""
    return (
        f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"{dashed}/>'
        + whiskers
    )


def _segment(
    a: tuple[float, float], b: tuple[float, float], x: Range, y: Range, colour: str, dash: str
) -> str:
    (x1, y1), (x2, y2) = _at(a, x, y), _at(b, x, y)
    dashed = f' stroke-dasharray="{dash}"' if dash else ""
    return f'<line x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}" stroke="{colour}"{dashed}/>'


def _axes(chart: Chart, x: Range, y: Range) -> str:
    """Only 0 and 1 are written: other numbers are in the table, with their place in the record."""
    middle, base = (LEFT + WIDTH - AROUND) / 2, HEIGHT - BELOW
    marks = [(0.0, "0"), (1.0, "1")] if chart.unit else [(0.0, "0")] if x[0] < 0 < x[1] else []
    parts = [
        f'<path d="M{LEFT} {AROUND}V{base}H{WIDTH - AROUND}" fill="none" stroke="#767676"/>',
        *(
            f'<text x="{_at((at, 0), x, y)[0]}" y="{base + 16}" text-anchor="middle">{name}</text>'
            for at, name in marks
        ),
        f'<text x="{middle}" y="{HEIGHT - 6}" text-anchor="middle">{escape(chart.x)}</text>',
        f'<text x="14" y="{base / 2}" text-anchor="middle" '
        f'transform="rotate(-90 14 {base / 2})">{escape(chart.y)}</text>',
    ]
    if chart.unit:
        parts.append(f'<text x="{LEFT - 6}" y="{AROUND + 8}" text-anchor="end">1</text>')
    return "".join(parts)


def _legend(lines: list[Line]) -> str:
    if len(lines) < 2:
        return ""
    return "".join(
        f'<text x="{WIDTH - AROUND - 4}" y="{HEIGHT - BELOW - 10 - 16 * number}" '
        f'text-anchor="end" style="fill:{COLOURS[number % 3]}">{escape(line.name)}</text>'
        for number, line in enumerate(lines)
    )
