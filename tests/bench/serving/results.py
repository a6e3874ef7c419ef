"""What a run of the bench found, and what follows from it. Pure: values in, values out."""

import math
import statistics
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

CONNECTIONS = (1, 16, 64)
OPEN_CONNECTIONS = 128


@dataclass(frozen=True)
class Cell:
    """One kind of load. `share`: of the capacity (one row, 64 connections), None: a closed loop."""

    traffic: str
    connections: int
    share: float | None = None


@dataclass(frozen=True)
class Record:
    """One measurement. CPU in microseconds per request: of what takes part in an answer, and of the
    rest of the subject's stack."""

    subject: str
    cell: Cell
    round: int
    rate: float
    p50_us: float
    p99_us: float
    p999_us: float
    serving_cpu_us: float
    other_cpu_us: float
    failed: int
    broken: int


@dataclass(frozen=True)
class Target:
    """`value` None: was not measured."""

    what: str
    wanted: str
    value: float | None
    reached: bool | None
    shown: str


@dataclass
class Results:
    """`in_process`: rows per second by batch, a list of rounds; `skipped`: subjects that failed in
    a round, with the last reason; `lost`:
    answered predictions that capture dropped, by subject."""

    about: dict[str, Any]
    labels: dict[str, str] = field(default_factory=dict)
    kinds: dict[str, str] = field(default_factory=dict)
    records: list[Record] = field(default_factory=list)
    in_process: dict[str, list[float]] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    lost: dict[str, int] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @staticmethod
    def from_dict(document: dict[str, Any]) -> "Results":
        records = [Record(**{**r, "cell": Cell(**r["cell"])}) for r in document["records"]]
        return Results(**{**document, "records": records})

    def of(self, subject: str, cell: Cell) -> list[Record]:
        return [r for r in self.records if r.subject == subject and r.cell == cell]

    def measured(self, kinds: Iterable[str]) -> list[str]:
        """The subjects of these kinds that have a result, in the order of the plan."""
        seen = {record.subject for record in self.records}
        return [name for name, kind in self.kinds.items() if kind in kinds and name in seen]

    def median(self, subject: str, cell: Cell, what: str) -> float | None:
        values = [getattr(record, what) for record in self.of(subject, cell)]
        return statistics.median(values) if values else None

    def ratio(self, subject: str, base: str, cell: Cell, what: str = "rate") -> float | None:
        """The median over the rounds of the quotient within a round."""
        quotients = self._quotients(subject, base, cell, what)
        return statistics.median(quotients) if quotients else None

    def ratio_between(self, subject: str, base: str, cell: Cell) -> tuple[float, float]:
        """95 % confidence interval of `ratio`, by the ranks (binomial, normal approximation): of
        few rounds it is all that was seen. Assumes that the rounds are independent."""
        quotients = sorted(self._quotients(subject, base, cell, "rate"))
        count = len(quotients)
        cut = max(0, math.floor(count / 2 - 0.98 * math.sqrt(count)) - 1)
        return quotients[cut], quotients[count - 1 - cut]

    def _quotients(self, subject: str, base: str, cell: Cell, what: str) -> list[float]:
        bases = {r.round: getattr(r, what) for r in self.of(base, cell)}
        return [
            getattr(r, what) / bases[r.round] for r in self.of(subject, cell) if bases.get(r.round)
        ]

    def spread(self, subject: str, cell: Cell) -> float:
        """The largest distance from the median, as a share of it."""
        rates = [record.rate for record in self.of(subject, cell)]
        middle = statistics.median(rates)
        return max(abs(rate - middle) for rate in rates) / middle

    def tail(self, subject: str) -> float | None:
        """p99 ÷ p50 at half of the capacity, the median of the rounds."""
        records = self.of(subject, Cell("json-1", OPEN_CONNECTIONS, 0.5))
        return statistics.median(r.p99_us / r.p50_us for r in records) if records else None


WANTED = {"direct": (1.1, 4.0, 4.5), "haproxy": (0.65, 1.4, 1.5)}
CAPTURE_COST = 0.05
IN_PROCESS_SHARE = 0.85
TAIL = 3.0


def targets(results: Results) -> list[Target]:
    """The promises of the serving path, each with what was found."""
    found: list[Target] = []
    for subject, floors in WANTED.items():
        for connections, floor in zip(CONNECTIONS, floors, strict=True):
            value = results.ratio(subject, "bare", Cell("json-1", connections))
            what = f"{subject}, c = {connections}: × bare uvicorn"
            found.append(_target(what, f"≥ {floor}", value, value is not None and value >= floor))
    for connections in CONNECTIONS:
        cell = Cell("json-1", connections)
        peers = {
            name: rate
            for name in results.measured(["peer"])
            if (rate := results.median(name, cell, "rate"))
        }
        own = results.median("direct", cell, "rate")
        if peers and own:
            best = max(peers, key=lambda name: peers[name])
            what = f"direct, c = {connections}: × best peer ({results.labels[best]})"
            found.append(_target(what, "> 1", own / peers[best], own > peers[best]))
    for connections in CONNECTIONS:
        kept = results.ratio("replica", "replica-uncaptured", Cell("json-1", connections))
        cost = None if kept is None else 1 - kept
        what = f"capture costs, c = {connections}"
        reached = cost is not None and cost <= CAPTURE_COST
        found.append(_target(what, f"≤ {CAPTURE_COST:.0%}", cost, reached, "{:.1%}"))
    rows, alone = results.median("direct", Cell("binary-256", 16), "rate"), results.in_process
    share = rows * 256 / statistics.median(alone["256"]) if rows and alone.get("256") else None
    reached = share is not None and share >= IN_PROCESS_SHARE
    what = "direct, 256 rows binary: of in-process rows/s"
    found.append(_target(what, f"≥ {IN_PROCESS_SHARE:.0%}", share, reached, "{:.0%}"))
    for subject in WANTED:
        tail = results.tail(subject)
        reached = tail is not None and tail <= TAIL
        what = f"{subject}, half of its capacity: p99 ÷ p50"
        found.append(_target(what, f"≤ {TAIL:.0f}", tail, reached))
    return found


def _target(
    what: str, wanted: str, value: float | None, reached: bool, form: str = "{:.2f}"
) -> Target:
    if value is None:
        return Target(what, wanted, None, None, "not measured")
    return Target(what, wanted, value, reached, form.format(value))
