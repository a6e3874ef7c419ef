"""A shadow and the label delay of a model with several labelled outputs."""

import json
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa

from driftloop_contracts.model import ModelSpec
from driftloop_evaluation.measures import measures_of
from driftloop_rollout.arm_rows import read_arm_rows
from driftloop_rollout.evidence import Margins, start
from driftloop_rollout.shadow_pairs import complete_until, paired_losses
from driftloop_rollout.shadow_plan import begun

START = datetime(2026, 11, 24, 12, tzinfo=UTC)
MARGINS = Margins(0.02, 0.01, 0.1, 0.05, 0.0, 0.98)
OFFERS = ModelSpec.from_dict(
    {
        "name": "offers",
        "task": "classification",
        "output": "approve",
        "objective": [
            {"metric": "error", "label": "approve"},
            {"metric": "absolute", "label": "amount", "output": "amount"},
        ],
    }
)


def offered(n: int, off: float, amounts: int | None = None) -> pa.Table:
    """A row a second; approve is wrong in a tenth of the rows, the amount by about `off`; the first
    `amounts` rows have a label of it."""
    r = np.random.default_rng(1)
    truth = r.integers(0, 2, n)
    labels = [{"approve": int(v), "amount": 300} for v in truth]
    for label in labels[amounts:] if amounts is not None else ():
        del label["amount"]
    return pa.table(
        {
            "predicted_at": pa.array(
                [START + timedelta(seconds=i) for i in range(n)], pa.timestamp("us", tz="UTC")
            ),
            "arm": ["stable"] * n,
            "version": pa.array([1] * n, pa.int32()),
            "row": pa.array([0] * n, pa.int32()),
            "latency_s": [0.01] * n,
            "error": pa.nulls(n, pa.string()),
            "out_approve": np.where(r.random(n) < 0.1, 1 - truth, truth),
            "out_amount": 300 + off * r.normal(size=n),
            "label": [json.dumps(label) for label in labels],
            "label_number": pa.nulls(n, pa.float64()),
        }
    )


def test_pairs_prove_each_objective_and_harm_to_one_ends_the_shadow() -> None:
    champion = offered(3_000, 10)
    measures = measures_of(OFFERS, champion, 0.02, 50)
    stage = begun(OFFERS, measures, MARGINS, champion, START, START)
    names = ["errors", "quality", "absolute amount"]
    assert [m.rule.name for m in stage.trial.metrics] == names
    assert [m.rule.decisive for m in stage.trial.metrics] == [False, True, True]
    equal = stage.trial.update(paired_losses(measures.all, champion, champion)).judge()
    assert (equal.action, equal.proven[-2:]) == ("proven", ("quality", "absolute amount"))
    assert "quality (error approve): candidate" in equal.reason
    worse = stage.trial.update(paired_losses(measures.all, champion, offered(3_000, 13))).judge()
    assert worse.action == "roll_back"
    assert worse.reason.startswith("absolute amount: candidate")


def test_rows_are_compared_once_they_have_all_labels() -> None:
    rows = offered(400, 10, amounts=100)
    assert complete_until(rows, 0.98, None, OFFERS.labels) == START + timedelta(
        seconds=101, microseconds=1
    )
    assert complete_until(rows, 0.98, None) == START + timedelta(seconds=399, microseconds=1)


def test_what_pairs_have_not_proven_is_left_to_the_canary() -> None:
    past = offered(2_000, 10)
    measures = measures_of(OFFERS, past, 0.02, 50)
    rows = read_arm_rows(past, OFFERS, None, 1, 2, measures=measures.all)

    def decisive(*proven: str) -> list[str]:
        found = start(OFFERS, MARGINS, (0.5,), rows, None, START, measures, 1e9, proven)
        assert found is not None
        return [m.rule.name for m in found.trial.metrics if m.rule.decisive]

    assert decisive() == ["quality", "absolute amount"]
    assert decisive("quality") == ["absolute amount"]
    assert decisive("quality", "absolute amount") == ["errors", "latency"]
