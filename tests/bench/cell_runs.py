"""Runs of the verdict's benchmark, kept in files so that a stopped bench goes on: one of JSON lines
a cell, a line a rollout. A rollout depends on its seed only."""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from ladder import Outcome
from scipy.special import betaincinv

DOCS = Path(__file__).resolve().parents[2] / "docs"
SUMMARY, PAGE = DOCS / "benchmarks.md", DOCS / "benchmarks" / "decisions.md"

HEAD = (
    "| traffic | candidate | runs | promoted | rolled back | undecided | wrong, at 95 % at most "
    "| rows: median, 90 % | canary's |"
)


@dataclass(frozen=True, slots=True)
class Case:
    """A kind of traffic and a kind of candidate; run: a seed → the outcome. cost: about how many
    CPU milliseconds that takes."""

    traffic: str
    candidate: str
    run: Callable[[int], Outcome]
    cost: int = 50

    @property
    def name(self) -> str:
        return f"{self.traffic}, {self.candidate}"

    def file(self, folder: Path) -> Path:
        kept = "".join(c if c.isalnum() or c in ".±" else "-" for c in self.name)
        return folder / f"{kept}.jsonl"

    def found(self, folder: Path) -> dict[int, Outcome]:
        """By the seed. A last line that was not written whole is left out."""
        file, found = self.file(folder), {}
        for line in file.read_text().splitlines() if file.exists() else ():
            try:
                value = json.loads(line)
            except ValueError:
                continue
            seed = value.pop("seed")
            found[seed] = Outcome(**value)
        return found


def run(case: Case, seeds: Iterable[int], folder: Path) -> None:
    """Run and keep what was not run yet."""
    folder.mkdir(parents=True, exist_ok=True)
    done = case.found(folder)
    with case.file(folder).open("a") as file:
        for seed in seeds:
            if seed not in done:
                line = json.dumps({"seed": seed, **asdict(case.run(seed))})
                file.write(f"{line}\n")
                file.flush()


def table(cases: Sequence[Case], folder: Path) -> str:
    """What was found, in markdown. Wrong is to roll an equal candidate or a better one back, and to
    promote a worse one."""
    lines = [HEAD, "|" + "---|" * (HEAD.count("|") - 1)]
    for case in cases:
        found = list(case.found(folder).values())
        if not found:
            continue
        count = Counter(outcome.action for outcome in found)
        count["promote"] += count["proven"]
        shares = [f"{count[a] / len(found):.1%}" for a in ("promote", "roll_back", "hold")]
        good = case.candidate == "equal" or "better" in case.candidate
        wrong = count["roll_back" if good else "promote"]
        most = betaincinv(wrong + 1, len(found) - wrong, 0.95) if wrong < len(found) else 1.0
        median, high = np.quantile([outcome.rows for outcome in found], [0.5, 0.9])
        rows = np.median([outcome.canary_rows for outcome in found])
        cells = [case.traffic, case.candidate, f"{len(found):,}", *shares, f"{most:.1%}"]
        lines.append(f"| {' | '.join([*cells, f'{median:,.0f}, {high:,.0f}', f'{rows:,.0f}'])} |")
    return "\n".join(lines)


def keep(name: str, text: str, page: Path) -> None:
    """Put the text between the markers of this name."""
    begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
    before, _, rest = page.read_text().partition(begin)
    if not rest:
        raise SystemExit(f"{page} has no {begin}")
    today = datetime.now(UTC).date().isoformat()
    page.write_text(f"{before}{begin}\n{today}.\n\n{text}\n{end}{rest.partition(end)[2]}")
