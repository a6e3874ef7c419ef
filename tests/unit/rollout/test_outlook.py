"""How long a verdict takes, and what is said if it comes too late."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from driftloop_rollout.evidence import ChampionBaseline, RolloutEvidence
from driftloop_rollout.label_delay import LabelDelay
from driftloop_rollout.outlook import Course, Outlook, outlook, walk
from driftloop_rollout.verdict import Metric, Rule, Trial

NOW = datetime(2026, 11, 29, tzinfo=UTC)
RUNGS = (0.05, 0.25, 0.5)
HOUR = 3_600.0


def evidence(rows_per_s: float = 10.0, labels: LabelDelay | None = None) -> RolloutEvidence:
    metrics = (
        Metric.start(Rule("quality", 0.02, True), RUNGS, 0.1),
        Metric.start(Rule("errors", 0.01, False), RUNGS, 0.0),
    )
    baseline = ChampionBaseline(0.1, 0.0, 0.0, 0.1, None, rows_per_s, rows_per_s)
    return RolloutEvidence(baseline, Trial(metrics), NOW, NOW, labels=labels)


def told(seen: RolloutEvidence, hours: float = 168.0, said_s: float | None = None) -> Outlook:
    return outlook(seen, RUNGS, 0, NOW, NOW + timedelta(hours=hours), said_s)


def test_half_the_traffic_takes_twice_as_long() -> None:
    fast, slow = told(evidence(10.0)), told(evidence(5.0))
    assert fast.seconds_to_verdict is not None
    assert slow.seconds_to_verdict == pytest.approx(2 * fast.seconds_to_verdict)
    # 18,000 rows, as measured by `make bench-verdict`
    assert fast.seconds_to_verdict == pytest.approx(1_800, rel=0.5)
    assert (fast.late, slow.late) == ("", "")


def test_labels_count_once_they_have_come_and_those_that_never_come_do_not() -> None:
    whole = told(evidence(labels=LabelDelay(24 * HOUR, 1.0, 100 * HOUR, 1_000, NOW)))
    part = told(evidence(labels=LabelDelay(24 * HOUR, 0.25, 100 * HOUR, 1_000, NOW)))
    plain = told(evidence())
    assert whole.seconds_to_verdict is not None
    assert part.seconds_to_verdict is not None
    assert plain.seconds_to_verdict is not None
    assert whole.seconds_to_verdict > 24 * HOUR + plain.seconds_to_verdict / 3
    assert part.seconds_to_verdict > whole.seconds_to_verdict
    assert "labels take 24 hours" in whole.sentence


def test_rows_of_the_past_are_waited_for_only_as_long_as_they_are_young() -> None:
    course = Course(needs=(100.0,), per_s=4.0, lag_s=50.0, since_s=-100.0)
    # 4 rows a second at a half: a unit of information a second, so the last row needed is of now
    assert walk([course], [(-100.0, 0.5)], [0.5]) == 50.0


def test_a_verdict_after_the_deadline_is_told_at_once_with_what_helps() -> None:
    late = told(evidence(0.05), hours=24)
    assert "no verdict before the deadline" in late.late
    for words in ("replays rows", "margin of", "times the traffic", "a deadline"):
        assert words in late.late
    assert late.sentence == late.late
    quality, errors = evidence(0.05).trial.metrics
    paired = replace(quality, rule=replace(quality.rule, share=0.5))
    seen = replace(evidence(0.05), trial=Trial((paired, errors)))
    assert "replays rows" not in told(seen, hours=24).late  # it has


def test_neither_margin_nor_traffic_helps_if_labels_take_longer_than_the_deadline() -> None:
    labels = LabelDelay(48 * HOUR, 1.0, 200 * HOUR, 1_000, NOW)
    late = told(evidence(labels=labels), hours=24).late
    assert "a deadline" in late
    assert "traffic" not in late


def test_without_labels_there_is_no_verdict_on_quality() -> None:
    labels = LabelDelay(None, 0.0, HOUR, 400, NOW)
    assert "without labels" in told(evidence(labels=labels)).late


def test_while_labels_still_come_the_time_is_not_known() -> None:
    labels = LabelDelay(None, 0.4, HOUR, 400, NOW)
    found = told(evidence(labels=labels))
    assert (found.seconds_to_verdict, found.late) == (None, "")
    assert "not known" in found.sentence


def test_evidence_that_came_shortens_it() -> None:
    fresh = evidence()
    quality = fresh.trial.metrics[0]
    near = replace(
        quality,
        proof=replace(quality.proof, best=4.0),
        gates=tuple(replace(gate, best=3.0) for gate in quality.gates),
    )
    seen = replace(fresh, trial=Trial((near, fresh.trial.metrics[1])))
    first, later = told(fresh).seconds_to_verdict, told(seen).seconds_to_verdict
    assert first is not None
    assert later is not None
    assert later < first / 2


def test_it_is_kept_and_read_by_releases_that_know_less_or_more() -> None:
    found = Outlook(5.0, 0.1, 60.0, 0.4)
    assert Outlook.from_dict(found.to_dict()) == found
    assert Outlook.from_dict({"seconds_to_verdict": 5.0, "unknown": 1}).seconds_to_verdict == 5.0
