"""What every judge must hold to: a function, an endpoint of OpenAI's API, and the fake that tests
hold in their hand. Then what only the endpoint's must."""

import itertools
import socket
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from judge_endpoint import JudgeEndpoint
from pydantic import SecretStr

from driftloop_contracts.errors import Rejected
from driftloop_contracts.model import ModelSpec
from driftloop_judge.function_judge import FunctionJudge
from driftloop_judge.judge import TIME_OVER, Judge, JudgedAnswer
from driftloop_judge.lookup import judge_of
from driftloop_judge.openai_judge import MAX_CHARS, OpenAiJudge
from driftloop_settings import JudgeSettings

ASKED = ({"role": "user", "content": "What is the capital of France?"},)
SPEC = ModelSpec("chat", "generation", "text", "lora-sft", runtime="vllm")


class FakeJudge:
    """Knows its scores by the answers' texts."""

    name = "fake"

    def __init__(self, known: dict[str, float]) -> None:
        self.known = known

    def scores(
        self, answers: Sequence[JudgedAnswer], limit_s: float
    ) -> tuple[list[float | None], str]:
        if limit_s <= 0:
            return [None] * len(answers), TIME_OVER
        found = [self.known.get(a.text) for a in answers]
        return found, "not known" if None in found else ""


def scored(messages: list[dict[str, Any]], answer: str) -> float | None:
    """A function as users write one. It fails for an answer that it was not made for."""
    assert messages == list(ASKED)
    if answer == "silence":
        return None
    return {"Paris.": 1.0, "Lyon.": 0.3, "many": 7.0}[answer]


def said(answer: str, body: dict[str, Any]) -> tuple[int, str]:
    replies = {"Paris.": "Right.\nScore: 10", "Lyon.": "3", "many": "Score: 70", "silence": "Hm."}
    return (200, replies[answer]) if answer in replies else (500, "")


@pytest.fixture(autouse=True)
def _direct(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def endpoint() -> Iterator[Callable[..., JudgeEndpoint]]:
    made: list[JudgeEndpoint] = []

    def make(reply: Callable[[str, dict[str, Any]], tuple[int, str]]) -> JudgeEndpoint:
        made.append(JudgeEndpoint(reply))
        return made[-1]

    yield make
    for one in made:
        one.close()


def of(endpoint: JudgeEndpoint, key: str | None = None) -> OpenAiJudge:
    return OpenAiJudge(endpoint.url, "m", SecretStr(key) if key else None, pause=lambda _: None)


@pytest.fixture(params=["fake", "function", "endpoint"])
def judge(request: pytest.FixtureRequest, endpoint: Callable[..., JudgeEndpoint]) -> Judge:
    if request.param == "fake":
        return FakeJudge({"Paris.": 1.0, "Lyon.": 0.3})
    if request.param == "function":
        return FunctionJudge("tests:scored", scored)
    return of(endpoint(said))


def answers(*texts: str) -> list[JudgedAnswer]:
    return [JudgedAnswer(ASKED, text) for text in texts]


def test_answers_get_a_score_each_in_their_order(judge: Judge) -> None:
    texts = ["Lyon.", "Paris.", "Lyon.", "Lyon.", "Paris.", "Paris."]
    assert judge.scores(answers(*texts), 30.0) == ([0.3, 1.0, 0.3, 0.3, 1.0, 1.0], "")
    assert judge.scores([], 30.0) == ([], "")


@pytest.mark.parametrize("text", ["broken", "silence", "many"])
def test_an_answer_that_gets_no_score_does_not_stop_the_others(judge: Judge, text: str) -> None:
    found, _ = judge.scores(answers("Paris.", text, "Lyon."), 30.0)
    assert found == [1.0, None, 0.3]


def test_what_is_not_reached_in_time_has_no_score_and_says_so(judge: Judge) -> None:
    assert judge.scores(answers("Paris.", "Lyon."), 0.0) == ([None, None], TIME_OVER)


def test_a_judge_has_a_name_to_show(judge: Judge) -> None:
    assert judge.name


# -- the endpoint's ----------------------------------------------------------------------------
def test_it_is_asked_again_while_it_is_busy_and_not_when_it_refuses(
    endpoint: Callable[..., JudgeEndpoint],
) -> None:
    states = itertools.chain([503, 429], itertools.repeat(200))
    busy = endpoint(lambda answer, body: (next(states), "Score: 4"))
    assert of(busy).scores(answers("a"), 30.0) == ([0.4], "")
    refusing = endpoint(lambda answer, body: (401, ""))
    assert of(refusing).scores(answers("a"), 30.0) == ([None], "it answered with 401")
    assert (len(busy.bodies), len(refusing.bodies)) == (3, 1)


def test_a_model_that_takes_no_options_is_asked_without_from_then_on(
    endpoint: Callable[..., JudgeEndpoint],
) -> None:
    strict = endpoint(lambda a, body: (400 if "temperature" in body else 200, "Score: 4"))
    judge = of(strict)
    assert judge.scores(answers("a"), 30.0)[0] == [0.4]
    assert judge.scores(answers("a"), 30.0)[0] == [0.4]
    assert ["temperature" in body for body in strict.bodies] == [True, False, False]


def test_an_endpoint_that_is_away_is_said(endpoint: Callable[..., JudgeEndpoint]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    judge = OpenAiJudge(f"http://127.0.0.1:{port}/v1", "m", pause=lambda _: None)
    assert judge.scores(answers("a"), 30.0) == ([None], "it did not answer (ConnectError)")


def test_an_endpoint_that_hangs_costs_the_limit_and_no_more() -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:  # accepts, and never answers
        judge = OpenAiJudge(f"http://127.0.0.1:{mute.getsockname()[1]}/v1", "m")
        found, why = judge.scores(answers(*"abcdefgh"), 0.3)
    assert found == [None] * 8
    assert why == TIME_OVER


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        ([b"<html>"], "it did not answer in OpenAI's form"),
        ([b'{"choices": []}'], "it did not answer in OpenAI's form"),
        ([b'{"choices": [{"message": {"content": null}}]}'], "it did not answer in OpenAI's form"),
        ([b"x" * (1 << 16)] * 17, "it did not answer (TimeoutError)"),
    ],
)
def test_what_is_no_answer_is_said(
    endpoint: Callable[..., JudgeEndpoint], raw: list[bytes], why: str
) -> None:
    odd = endpoint(said)
    odd.raw = raw
    assert of(odd).scores(answers("Paris."), 30.0) == ([None], why)


@pytest.mark.parametrize(
    ("text", "score"),
    [
        ("**Score:** 7", 0.7), ("Score: 2 is too low.\nScore: 8/10", 0.8), ("score = 6.5", 0.65),
        ("9/10", 0.9), ("Score: 11", None), ("It has 3 faults.", None), ("", None),
    ],
)  # fmt: skip
def test_the_last_score_that_is_named_counts(
    endpoint: Callable[..., JudgeEndpoint], text: str, score: float | None
) -> None:
    assert of(endpoint(lambda *_: (200, text))).scores(answers("a"), 30.0)[0] == [score]


def test_the_key_goes_into_the_header_and_nowhere_else(
    endpoint: Callable[..., JudgeEndpoint], monkeypatch: pytest.MonkeyPatch
) -> None:
    refusing = endpoint(lambda *_: (403, "secret-key is not allowed"))
    settings = JudgeSettings(url=refusing.url, model="m", key_env="JUDGE_KEY")
    monkeypatch.setenv("JUDGE_KEY", "secret-key")
    judge = judge_of(settings, SPEC)
    assert judge is not None
    told = judge.scores(answers("a"), 30.0)
    assert refusing.keys == ["Bearer secret-key"]
    assert "secret-key" not in f"{told} {judge.name} {vars(judge)} {refusing.bodies} {settings}"
    monkeypatch.delenv("JUDGE_KEY")
    with pytest.raises(Rejected, match="JUDGE_KEY, which is not set in the monitor's environment"):
        judge_of(settings, SPEC)


def test_long_texts_are_cut(endpoint: Callable[..., JudgeEndpoint]) -> None:
    open_minded = endpoint(lambda answer, body: (200, "1" if len(answer) == MAX_CHARS else "0"))
    assert of(open_minded).scores(answers("x" * 50_000), 30.0)[0] == [0.1]


# -- who is named ------------------------------------------------------------------------------
def test_a_models_own_judge_goes_before_the_endpoint() -> None:
    from dataclasses import replace

    own = replace(SPEC, options={"judge": f"{__name__}:scored"})
    judge = judge_of(JudgeSettings(url="http://127.0.0.1:9/v1", model="m"), own)
    assert judge is not None
    assert judge.scores(answers("Lyon."), 30.0) == ([0.3], "")
    assert judge_of(JudgeSettings(), SPEC) is None
    with pytest.raises(Rejected, match=r"options.judge 'nowhere:at_all' cannot be imported"):
        judge_of(JudgeSettings(), replace(SPEC, options={"judge": "nowhere:at_all"}))


@pytest.mark.parametrize(
    "given",
    [{"url": "http://h/v1"}, {"url": "http://me:pw@h/v1", "model": "m"},
     {"url": "h/v1", "model": "m"}],
)  # fmt: skip
def test_an_endpoint_that_cannot_be_asked_is_refused(given: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="url"):
        JudgeSettings(**given)
