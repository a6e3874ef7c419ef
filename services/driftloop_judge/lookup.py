"""Chooses the judge of a model's answers."""

from driftloop_contracts.model import ModelSpec
from driftloop_judge.function_judge import FunctionJudge
from driftloop_judge.judge import Judge
from driftloop_judge.openai_judge import OpenAiJudge
from driftloop_settings import JudgeSettings


def judge_of(settings: JudgeSettings, spec: ModelSpec) -> Judge | None:
    """Return the function named by the spec's `options.judge`, else the endpoint at `judge.url`,
    else None. Raises Rejected if the judge is not available."""
    named = spec.options.get("judge")
    if named is not None:
        return FunctionJudge.load(str(named))
    return OpenAiJudge.of(settings) if settings.url is not None else None
