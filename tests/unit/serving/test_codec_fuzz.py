import random

import pytest
from codec_cases import case, outcome

CASES = 3000


def test_a_request_is_answered_or_rejected_whatever_it_holds() -> None:
    """Uses other seeds in each run (pytest-randomly prints them); fuzz_codec.py runs many more."""
    outcomes = set()
    for seed in (random.randrange(2**32) for _ in range(CASES)):
        try:
            outcomes.add(outcome(case(seed)))
        except Exception as error:
            pytest.fail(f"codec_cases.case({seed}): {error!r}")
    assert outcomes == {"accepted", "rejected"}
