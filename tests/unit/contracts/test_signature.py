import pytest

from driftloop_contracts.errors import Rejected
from driftloop_contracts.events import prediction_schema
from driftloop_contracts.signature import MAX_WIDTH, Signature, TensorSpec
from driftloop_lake.columns import MAX_COLUMNS, merged


def wide(inputs: int) -> Signature:
    tensors = tuple(TensorSpec(f"x{n}", "FP32", (-1, 1)) for n in range(inputs))
    return Signature(tensors, (TensorSpec("value", "FP32", (-1, 1)),))


def test_the_widest_model_that_deploys_fits_the_lake() -> None:
    widest = wide(MAX_WIDTH - 1)
    widest.check_width()
    assert len(merged(None, prediction_schema(widest))) < MAX_COLUMNS


def test_a_wider_one_is_refused_with_what_to_do() -> None:
    with pytest.raises(Rejected, match=r"4,001 inputs and outputs.*one input of the shape"):
        wide(MAX_WIDTH).check_width()
