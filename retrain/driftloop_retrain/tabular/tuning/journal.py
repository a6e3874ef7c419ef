"""The trials of a search, in the work folder: a killed search resumes with those that it has.

One JSON line for each finished trial, and beside it what it answered on the validation rows. A line
is written after its answers, and a line that a kill cut short is as if it had never been begun.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from driftloop_retrain.tabular.evaluate import Outputs
from driftloop_retrain.tabular.tuning.space import Parameters

State = Literal["done", "pruned", "failed"]


@dataclass(frozen=True)
class TrialRecord:
    """rungs: the validation losses at the points of successive halving. value: the mean loss by the
    objective, of one that is done. reason: why it failed. seconds: that it took."""

    family: str
    span: str
    parameters: Parameters
    state: State
    seconds: float
    rounds: int = 0
    value: float | None = None
    rungs: tuple[float, ...] = ()
    reason: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)


class Journal:
    """The records of one search. key: what the search is made of; a journal of another is not
    used."""

    def __init__(self, folder: Path, key: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._file = folder, folder / "trials.jsonl"
        lines = self._file.read_bytes().splitlines(keepends=True) if self._file.exists() else []
        whole = [json.loads(line) for line in lines if line.endswith(b"\n")]
        self.records: list[TrialRecord] = []
        if whole and whole[0] == {"key": key}:
            self.records = [_record(each) for each in whole[1:]]
        text = "".join(
            json.dumps(each) + "\n" for each in ({"key": key}, *map(asdict, self.records))
        )
        part = self._file.with_suffix(".part")
        part.write_text(text)
        part.replace(self._file)

    @property
    def spent_s(self) -> float:
        return sum(record.seconds for record in self.records)

    def add(self, record: TrialRecord, outputs: Outputs | None = None) -> None:
        """outputs: by name, [n] or [n, …], of one that is done."""
        if outputs is not None:
            part = self._folder / "outputs.part.npz"
            # Texts as fixed-width arrays: those of objects would be pickled.
            arrays: Any = {
                f"out_{name}": values.astype(str) if values.dtype == object else values
                for name, values in outputs.items()
            }
            np.savez(part, **arrays)
            part.replace(self._outputs(len(self.records)))
        with self._file.open("a") as file:
            file.write(json.dumps(asdict(record)) + "\n")
        self.records.append(record)

    def outputs(self, number: int) -> dict[str, NDArray[np.generic]]:
        """What the trial answered."""
        with np.load(self._outputs(number), allow_pickle=False) as kept:
            found = {name.removeprefix("out_"): kept[name] for name in kept.files}
        return {n: v.astype(object) if v.dtype.kind == "U" else v for n, v in found.items()}

    def _outputs(self, number: int) -> Path:
        return self._folder / f"trial-{number}.npz"


def _record(document: dict[str, Any]) -> TrialRecord:
    return TrialRecord(**{**document, "rungs": tuple(document["rungs"])})
