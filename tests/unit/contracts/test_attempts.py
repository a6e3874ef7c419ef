"""The attempts of a retrain, which are records of their own."""

from datetime import UTC, datetime

from driftloop_contracts.retrain import Retrain, attempts_of, retry_id

FIRST = "0f4f7e7e-4f6d-4a5e-9a57-000000000001"
OTHER = "0f4f7e7e-4f6d-4a5e-9a57-000000000009"


def retrain(id_: str, attempt: int = 1, model: str = "loans") -> Retrain:
    return Retrain(id=id_, model=model, at=datetime(2026, 11, 30, tzinfo=UTC), attempt=attempt)


def test_attempts_are_found_from_each_of_them() -> None:
    first, second = retrain(FIRST), retrain(retry_id(FIRST), 2)
    third = retrain(retry_id(second.id), 3)
    known = [third, retrain(OTHER), second, first]
    for one in (first, second, third):
        assert attempts_of(one, known) == [first, second, third]
    assert attempts_of(known[1], known) == [known[1]]


def test_an_attempt_whose_first_is_not_known_stands_alone() -> None:
    second = retrain(retry_id(FIRST), 2)
    assert attempts_of(second, []) == [second]
    assert attempts_of(second, [retrain(FIRST, model="cards")]) == [second]
