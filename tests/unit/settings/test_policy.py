from typing import Any

import pytest

from driftloop_contracts.errors import Rejected
from driftloop_contracts.model import ModelSpec
from driftloop_settings import JudgeSettings, Settings, TuningSettings, load_settings, policy_keys


def spec(options: dict[str, Any] | None = None, **policy: Any) -> ModelSpec:
    return ModelSpec("m", options=options or {}, policy=policy)


def test_a_policy_overrides_the_settings_of_its_model_alone() -> None:
    settings = load_settings(["monitoring.min_rows=50", "rollout.steps=[0.1]"], environ={})
    policy = {"window_rows": 300, "label_timeout_s": 9.0}
    own = settings.for_model(spec(monitoring=policy, rollout={"steps": [0.3, 1]}))
    assert (own.monitoring.window_rows, own.monitoring.label_timeout_s) == (300, 9.0)
    assert own.monitoring.min_rows == 50
    assert own.rollout.steps == (0.3, 1.0)
    assert own.serving is settings.serving
    assert settings.rollout.steps == (0.1,)


def test_without_a_policy_the_settings_hold() -> None:
    settings = Settings()
    assert settings.for_model(spec()) == settings


@pytest.mark.parametrize(
    ("policy", "said"),
    [
        ({"rollout": {"stepz": [1]}}, r"`policy.rollout.stepz`; did you mean `policy.rollout.st"),
        ({"rolout": {"steps": [1]}}, r"`policy.rolout`; did you mean `policy.rollout`"),
        ({"window_rows": 500}, r"did you mean `policy.monitoring.window_rows`"),
        ({"monitoring": {"interval_s": 1}}, r"`policy.monitoring.interval_s` is global"),
        ({"kafka": {"port": 1}}, r"`policy.kafka` is global"),
        ({"state_dir": "x"}, r"`policy.state_dir` is global"),
        ({"judge": {"url": "http://h/v1"}}, r"`policy.judge.url` is global"),
        ({"retrain": [1]}, r"policy.retrain must be a mapping"),
        ({"monitoring": {"window_rows": 5}}, r"policy.monitoring.window_rows: .*100"),
        ({"rollout": {"steps": [5, 25]}}, r"policy.rollout.steps.0: .*less than or equal to 1"),
        ({"trigger": {"schedule": "at noon"}}, r"policy.trigger.schedule: .*cron"),
        ({"trigger": {"timezone": "Mars/Base"}}, r"policy.trigger.timezone: .*time zone"),
        ({"tuning": {"rank": 0}}, r"policy.tuning.rank"),
    ],
)  # fmt: skip
def test_a_policy_that_does_not_fit_is_refused_with_the_key(
    policy: dict[str, Any], said: str
) -> None:
    with pytest.raises(Rejected, match=said):
        Settings().for_model(spec(**policy))


def test_specs_of_former_versions_say_options_tune() -> None:
    settings = Settings(tuning=TuningSettings(steps=7))
    former = spec({"tune": {"learning_rate": 0.5, "rank": 2}}, tuning={"rank": 4})
    found = settings.for_model(former).tuning
    assert (found.steps, found.learning_rate, found.rank) == (7, 0.5, 4)
    assert set(policy_keys(former)) == {"tuning.learning_rate", "tuning.rank"}


def test_a_policy_is_judged_with_the_settings_that_it_does_not_set() -> None:
    settings = Settings(judge=JudgeSettings(url="http://h/v1", model="a"))
    assert settings.for_model(spec(judge={"model": "b"})).judge.url == "http://h/v1"
    with pytest.raises(Rejected, match=r"judge.url needs judge.model"):
        settings.for_model(spec(judge={"model": None}))
