import pytest

from driftloop_contracts.durations import in_short, in_words, seconds_of
from driftloop_contracts.errors import Rejected


@pytest.mark.parametrize(("text", "seconds"), [("30m", 1_800), ("4h", 14_400), ("2d", 172_800)])
def test_a_silence_lasts_as_long_as_is_said(text: str, seconds: float) -> None:
    assert seconds_of(text, "--for") == seconds


@pytest.mark.parametrize("text", ["", "4", "0h", "-1h", "1.5h", "h", "9999999d", "4 h x"])
def test_other_durations_are_refused_with_an_example(text: str) -> None:
    with pytest.raises(Rejected, match="such as 30m, 4h or 2d"):
        seconds_of(text, "--for")


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(5, "5 s"), (119, "119 s"), (180, "3 minutes"), (86_000, "24 hours"), (400_000, "5 days")],
)
def test_durations_in_words(seconds: float, words: str) -> None:
    assert in_words(seconds) == words


@pytest.mark.parametrize(
    ("seconds", "short"),
    [(None, "–"), (59, "59 s"), (90, "1.5 min"), (7_200, "2 h"), (400_000, "4.63 d")],
)
def test_durations_in_short(seconds: float | None, short: str) -> None:
    assert in_short(seconds) == short
