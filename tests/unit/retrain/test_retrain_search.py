import numpy as np
import pytest

from driftloop_retrain.tabular.dataset import ALL
from driftloop_retrain.tabular.search import Trial, best_of


def trial(family: str, wrong: int, rows: int = 600) -> Trial:
    losses = np.zeros(rows)
    losses[:wrong] = 1.0
    return Trial(family, ALL, 10, losses, {})


@pytest.mark.parametrize(
    ("wrong", "best"), [(60, "first"), (57, "first"), (40, "second"), (90, "first")]
)
def test_a_later_contender_must_be_better_by_more_than_noise(wrong: int, best: str) -> None:
    assert best_of([trial("first", 60), trial("second", wrong)]).family == best
