"""Settings of language models (runtime `vllm`): how they are served, judged and fine-tuned."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from driftloop_settings.addresses import host_port
from driftloop_settings.section import GLOBAL, ModelSection


class LlmSettings(ModelSection):
    """How language models are served, and when their ratings matter."""

    roots: Annotated[tuple[str, ...], GLOBAL] = ()
    """Folders and URI prefixes that may contain weights, in addition to the state directory."""
    request_timeout_s: Annotated[float, GLOBAL] = Field(600.0, gt=0)
    """Seconds that an answer may take from its request to its last token."""
    nice: Annotated[int, GLOBAL] = Field(5, ge=0, le=19)
    """The niceness of engines without a GPU, which would use all cores; other models have
    priority."""
    rating_age_s: float = Field(300.0, gt=0)
    """Seconds after which an answer is judged by its rating, when most ratings have been given.
    Unrated answers are not judged."""
    rating_margin: float = Field(0.05, gt=0, lt=1)
    """A fall of the mean rating (0 to 1) that matters: it raises an alert, and a canary must be
    shown not to have it."""
    format_margin: float = Field(0.05, gt=0, lt=1)
    """A rise of the share of malformed answers that rolls a canary back."""
    judge_latency: bool = False
    """Whether a canary is judged by its seconds per token. Do not enable it without a GPU, where
    every adapter is slower than its base."""
    shadow_tokens: int = Field(512, ge=2)
    """The most tokens of an answer in the shadow. A conversation that the champion answered with
    more than half of them is left out."""
    shadow_busy_above: int | None = Field(None, ge=0)
    """The calls in progress above which an engine gives up and drops answers in the shadow; None: 4
    with a GPU, 0 without one."""
    reference_answers: int = Field(1_001, ge=200)
    """The number of a version's first answers with which later ones are compared. Drift is judged
    from 1,001 on; the ratings of at least 200 of them are the baseline of its rating."""
    min_ratings: int = Field(200, ge=0)
    """The number of rated answers needed for a retrain by an alert or the schedule, like
    `trigger.min_fresh_labels` for other models."""
    min_corrections: int | None = Field(200, ge=1)
    """The number of answers corrected, or ranked below a better one, since the last retrain that
    starts the next one; None: corrections do not start a retrain."""
    max_perplexity_rise: float | None = Field(0.5, gt=0)
    """A rise of the nats per token of corrected texts under the served version that causes a
    warning. None: the engine is not asked."""


class TuningSettings(ModelSection):
    """How language models are fine-tuned."""

    answers: int = Field(20_000, ge=1)
    """The number of newest answers with feedback that a fine-tune reads."""
    min_examples: int = Field(50, ge=1)
    """The least number of corrected and well-rated answers (or pairs) to train on."""
    min_rating: float = Field(0.8, ge=0, le=1)
    """The lowest rating (0 to 1) of an answer used for training."""
    max_tokens: int = Field(1_024, ge=16)
    """The most tokens of prompt and answer together; longer ones are left out."""
    replay_share: float = Field(0.1, ge=0, lt=1)
    """The share of unrated answers, from versions with good ratings on average, in the training
    examples; they prevent forgetting."""
    holdout_share: float = Field(0.2, gt=0, lt=0.5)
    """The share of the prompts, the newest ones, on which the gate judges."""
    validation_share: float = Field(0.1, gt=0, lt=0.5)
    """The share of the prompts that decides when training stops."""
    holdout_answers: int = Field(200, ge=20)
    """The most held-out answers, the newest ones, on which the gate judges."""
    rank: int = Field(16, ge=1, le=512)
    """The rank of the LoRA adapter."""
    alpha: float = Field(32.0, gt=0)
    """The scale of the LoRA adapter: its weights count `alpha / rank`."""
    targets: str = Field("all-linear", pattern=r"[^,\s]")
    """The modules that get an adapter, comma-separated."""
    learning_rate: float = Field(1e-3, gt=0)
    """The highest learning rate of the training."""
    epochs: float = Field(3.0, gt=0)
    """The most passes over the examples; the training ends with this or `steps`."""
    steps: int = Field(120, ge=1)
    """The most updates; the training ends with this or `epochs`, whichever comes first."""
    batch: int = Field(8, ge=1)
    """The number of examples per update."""
    packing: bool = False
    """lora-sft: several answers of a batch share a row without seeing each other. Steps are
    equivalent, with less padding. Refused for models that do not support it."""
    patience: int = Field(3, ge=1)
    """The number of evaluations on the validation share without a better loss after which training
    stops."""
    from_champion: bool = True
    """Whether training continues from the champion's adapter, if it is one, or starts with a new
    one."""
    beta: float = Field(0.1, gt=0)
    """lora-dpo: how strongly the model is held to its starting point."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """What the training runs on; auto: a GPU if this machine has one."""
    threads: int = Field(0, ge=0, le=1_024)
    """The threads of a training without a GPU; 0: one for each core."""
    ray_address: Annotated[str, AfterValidator(host_port)] = ""
    """HOST:PORT of a Ray cluster to train on, of which this machine must be a node; "": train
    here."""
    workers: int = Field(1, ge=1, le=1_024)
    """The number of workers on that cluster, which share each batch; each has a GPU if `device` is
    cuda, or auto and the cluster has enough."""
    worker_cpus: float = Field(1.0, ge=0.0001, le=1_024)
    """The CPU cores that each worker asks Ray for, and its threads if `threads` is 0."""
    generated: int = Field(16, ge=0)
    """The number of held-out prompts that champion and candidate answer, for the report and the
    scorer."""
    generated_tokens: int = Field(64, ge=1)
    """The most tokens of each of these answers."""
    max_regression: float = Field(0.05, ge=0, le=1)
    """The largest allowed fall of the scorer and the regression suite, as a fraction of 1."""
    max_forgetting: float = Field(2.0, gt=0)
    """The largest allowed rise of the nats per token of the base's own answers to general
    prompts."""

    @model_validator(mode="after")
    def _can_train(self) -> "TuningSettings":
        if self.min_examples > self.answers:
            raise ValueError(
                f"tuning.min_examples {self.min_examples} is over tuning.answers {self.answers}: "
                "nothing could be trained"
            )
        if self.ray_address and self.batch % self.workers:
            raise ValueError(
                f"tuning.batch {self.batch} is not a multiple of tuning.workers {self.workers}, "
                "which share it"
            )
        return self


class JudgeSettings(ModelSection):
    """A judge of language models' answers that has OpenAI's API."""

    url: Annotated[str | None, GLOBAL] = Field(None, pattern=r"^https?://[^/@?#]+(/[^@?#]*)?$")
    """The endpoint, like `base_url` of OpenAI's clients, such as http://127.0.0.1:9000/v1.
    Conversations and answers are sent to it; None: there is no such judge."""
    model: str | None = None
    """The judge's name at that endpoint."""
    key_env: Annotated[str | None, GLOBAL] = None
    """The environment variable with the key for `url`; None: no key is needed."""
    answers: int = Field(64, ge=2)
    """The most answers scored in one monitoring cycle; half of them belong to the windows that it
    closes."""
    timeout_s: float = Field(10.0, gt=0)
    """The most seconds that scoring takes in one monitoring cycle."""
    min_rated: int = Field(100, ge=20)
    """The number of answers both scored by the judge and rated by people that is needed before its
    scores are used."""
    min_auc: float = Field(0.7, gt=0.5, lt=1)
    """The least probability, by a lower 95 % bound, that the judge ranks a well-rated answer above
    a badly rated one; below it, its scores are not used."""

    @model_validator(mode="after")
    def _url_has_a_model(self) -> "JudgeSettings":
        if self.url is not None and self.model is None:
            raise ValueError("judge.url needs judge.model, the model's name at that endpoint")
        return self
