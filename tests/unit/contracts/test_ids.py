from datetime import UTC, datetime
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from driftloop_contracts.ids import new_prediction_id, time_of, uuid7


@given(st.integers(0, 2**48 - 1), st.integers(0, 2**74 - 1))
def test_uuid7_carries_its_time_version_and_variant(unix_ms: int, bits: int) -> None:
    made = UUID(uuid7(unix_ms, bits))
    assert made.version == 7
    assert made.variant == "specified in RFC 4122"
    assert made.int >> 80 == unix_ms


@given(st.integers(0, 2**48 - 2), st.integers(0, 2**74 - 1), st.integers(0, 2**74 - 1))
def test_ids_sort_by_the_time_they_were_made(unix_ms: int, a: int, b: int) -> None:
    assert uuid7(unix_ms, a) < uuid7(unix_ms + 1, b)


def test_time_of_a_new_id_is_now() -> None:
    made = time_of(new_prediction_id())
    assert made is not None
    assert abs((datetime.now(UTC) - made).total_seconds()) < 5


def test_an_id_of_another_kind_has_no_time() -> None:
    assert time_of("order-17") is None
    assert time_of("6ba7b810-9dad-11d1-80b4-00c04fd430c8") is None
