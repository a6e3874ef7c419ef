import numpy as np
import pytest

from driftloop_contracts.judgement import Severity
from driftloop_monitoring.statistics.columns import Column, Kind
from driftloop_monitoring.statistics.drift import DriftRule, moved, p_value
from driftloop_monitoring.statistics.quality import issues

RULE = DriftRule(effect=0.1, significance=0.001)


def plain_distance(kind: Kind, reference: Column, window: Column) -> float:
    """Wasserstein or total variation: the tests of Evidently's own are in tests/contract."""
    from scipy import stats

    if kind == "number":
        return float(
            stats.wasserstein_distance(reference.values, window.values) / reference.values.std()
        )
    names = set(reference.values) | set(window.values)
    return sum(abs((reference.values == n).mean() - (window.values == n).mean()) for n in names) / 2


def numbers(name: str, values: np.ndarray) -> dict[str, Column]:
    return {name: Column(name, "number", np.asarray(values, dtype=float))}


def texts(name: str, values: list[str | None]) -> dict[str, Column]:
    return {name: Column(name, "category", np.array(values, dtype=object))}


def rng() -> np.random.Generator:
    return np.random.default_rng(5)


def test_a_shifted_column_is_found_with_effect_and_significance() -> None:
    r = rng()
    reference = numbers("a", r.normal(size=5_000)) | numbers("b", r.normal(size=5_000))
    window = numbers("a", r.normal(0.5, size=1_000)) | numbers("b", r.normal(size=1_000))
    (found,) = moved(reference, window, plain_distance, RULE)
    assert found.column == "a"
    assert found.effect == pytest.approx(0.5, abs=0.1)
    assert found.significance < 0.001 / 2


def test_a_significant_but_tiny_shift_is_no_drift() -> None:
    r = rng()
    reference = numbers("a", r.normal(size=200_000))
    window = numbers("a", r.normal(0.05, size=100_000))
    assert p_value(reference["a"], window["a"]) < 1e-6
    assert moved(reference, window, plain_distance, RULE) == []


def test_windows_without_drift_are_silent() -> None:
    r = rng()
    kinds = list("abcde")
    reference = numbers("x", r.gamma(1.0, size=5_000)) | numbers("i", r.integers(0, 4, 5_000))
    reference |= texts("c", list(r.choice(kinds, 5_000)))
    alerts = 0
    for _ in range(100):
        window = numbers("x", r.gamma(1.0, size=1_000)) | numbers("i", r.integers(0, 4, 1_000))
        window |= texts("c", list(r.choice(kinds, 1_000)))
        alerts += bool(moved(reference, window, plain_distance, RULE))
        alerts += bool(issues(reference, window, 0.001))
    assert alerts == 0


def test_a_constant_reference_column_does_not_explode() -> None:
    reference = numbers("k", np.full(2_000, 3.0))
    assert moved(reference, numbers("k", np.full(1_000, 3.0)), plain_distance, RULE) == []
    half = np.where(np.arange(1_000) % 2, 3.0, 9.0)
    (found,) = moved(reference, numbers("k", half), plain_distance, RULE)
    assert found.effect == pytest.approx(0.5)


def test_missing_values_are_no_drift_but_missing_ones_are_told() -> None:
    r = rng()
    values = r.normal(size=2_000)
    values[:600] = np.nan
    reference, window = numbers("a", r.normal(size=5_000)), numbers("a", values)
    assert moved(reference, window, plain_distance, RULE) == []
    (found,) = issues(reference, window, 0.001)
    assert (found.check, found.severity) == ("missing", Severity.CRITICAL)
    assert found.effect == pytest.approx(0.3)


def test_an_empty_column_is_judged_for_what_is_missing_only() -> None:
    reference, window = texts("c", ["a", "b"] * 1_000), texts("c", [None] * 1_000)
    assert moved(reference, window, plain_distance, RULE) == []
    assert [t.check for t in issues(reference, window, 0.001)] == ["missing"]


@pytest.mark.parametrize(
    ("window", "check", "severity"),
    [
        (["a"] * 900 + ["z"] * 100, "new_category", Severity.WARNING),
        (["z"] * 500 + ["y"] * 500, "new_category", Severity.CRITICAL),
        (["a"] * 1_000, "constant", Severity.CRITICAL),
    ],
)
def test_broken_categories_are_told(
    window: list[str | None], check: str, severity: Severity
) -> None:
    found = issues(texts("c", ["a", "b"] * 1_000), texts("c", window), 0.001)
    assert (check, severity) in [(t.check, t.severity) for t in found]


def test_new_values_of_a_column_full_of_names_are_expected() -> None:
    reference = texts("id", [f"u{i}" for i in range(3_000)])
    window = texts("id", [f"v{i}" for i in range(1_000)])
    assert issues(reference, window, 0.001) == []


def test_values_far_out_of_range_infinite_ones_and_lost_columns_are_critical() -> None:
    reference = numbers("a", np.linspace(0, 1, 2_000)) | numbers("gone", np.arange(2_000))
    values = np.linspace(0, 1, 1_000)
    values[:300], values[300:600] = 1e6, np.inf
    found = {t.check: t for t in issues(reference, numbers("a", values), 0.001)}
    assert set(found) == {"absent", "out_of_range", "not_finite"}
    assert all(t.severity is Severity.CRITICAL for t in found.values())


def test_a_column_that_changed_its_type_is_critical() -> None:
    (found,) = issues(numbers("a", np.arange(2_000)), texts("a", ["1"] * 1_000), 0.001)
    assert (found.check, found.severity) == ("type", Severity.CRITICAL)
