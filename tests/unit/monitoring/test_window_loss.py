from driftloop_monitoring.statistics.window_loss import WindowLoss


def test_unexplained_rows_make_a_window_inconclusive() -> None:
    assert "3 served rows are unaccounted" in WindowLoss(2_000, {}, 3).doubt


def test_sampling_is_no_loss() -> None:
    sampled = WindowLoss(100, {"sampled": 9_900}, 0)
    assert (sampled.doubt, sampled.note) == ("", "")


def test_a_share_that_was_dropped_is_said_with_its_reason() -> None:
    some = WindowLoss(1_500, {"quota": 400, "disk": 100, "sampled": 7}, 0)
    assert some.doubt == ""
    assert some.note == "25% of the served rows were not captured (disk: 100, quota: 400)"


def test_where_most_was_dropped_nothing_is_judged() -> None:
    assert WindowLoss(400, {"quota": 600}, 0).doubt.startswith("60% of the served rows")
