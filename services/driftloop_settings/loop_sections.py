"""Settings of the loop: when a model gets an alert, a retrain, or a promotion."""

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from driftloop_settings.addresses import host_port
from driftloop_settings.change_windows import change_window
from driftloop_settings.schedule import cron_expression, time_zone
from driftloop_settings.section import GLOBAL, ModelSection, Section


class MonitoringSettings(ModelSection):
    interval_s: Annotated[float, GLOBAL] = Field(2.0, gt=0)
    """Seconds between two monitoring cycles."""
    window_rows: int = Field(2_000, ge=100, le=10_000_000)
    """The number of rows at which a window closes."""
    window_least_seconds: float = Field(5.0, ge=0)
    """The minimum duration of a window in seconds; with much traffic it has more rows."""
    window_seconds: float = Field(3_600.0, gt=0)
    """Seconds after which a window closes with the rows it has; below `min_rows` it is
    inconclusive."""
    min_rows: int = Field(500, ge=10)
    """The least number of rows with which a window is judged."""
    reference_rows: int = Field(20_000, ge=1_001, le=10_000_000)
    """The most rows of the champion's training data that windows are compared with."""
    drift_effect: float = Field(0.1, gt=0)
    """The smallest distance of a column from its reference that is a finding, in the distance's
    own unit."""
    drift_significance: float = Field(0.001, gt=0, lt=1)
    """The highest p-value of a drift finding, for all columns of a window together: it is divided
    by the number of columns."""
    performance_margin: float = Field(0.01, gt=0, lt=1)
    """A rise of the mean loss (in [0, 1]) that is worth an alert."""
    average_run_length: float | None = Field(None, gt=1)
    """The least number of labelled rows, on average, between two false alerts of the error test;
    None: by the rate of rows, so that `alerts.false_per_month` holds."""
    rhythm: Literal["learn", "none"] = "learn"
    """`learn`: the error may follow the hour and the weekday, and how it does is learned. Until a
    day was seen, a rhythm looks like a rise, so an alert needs one of 5 margins more, or points if
    those are less; until a week was seen, as much more as days differ. `none`: the traffic is known
    to have no rhythm."""
    label_coverage: float = Field(0.95, gt=0, le=1)
    """The share of rows that need a label before they are judged by their labels."""
    label_timeout_s: float = Field(86_400.0, gt=0)
    """Seconds after which rows are judged by the labels they have."""

    @model_validator(mode="after")
    def _windows_can_be_judged(self) -> "MonitoringSettings":
        if self.min_rows > self.window_rows:
            raise ValueError(
                f"monitoring.min_rows {self.min_rows} is over monitoring.window_rows "
                f"{self.window_rows}: no window could be judged"
            )
        if self.window_least_seconds > self.window_seconds:
            raise ValueError(
                f"monitoring.window_least_seconds {self.window_least_seconds:g} is over "
                f"monitoring.window_seconds {self.window_seconds:g}"
            )
        return self


class TriggerSettings(ModelSection):
    cooldown_s: float = Field(3_600.0, ge=0)
    """The minimum number of seconds between two retrains started by an alert or corrections."""
    min_fresh_labels: int = Field(2_000, ge=0)
    """The number of labels since the last retrain that are needed for the next one."""
    schedule: Annotated[str | None, AfterValidator(cron_expression)] = None
    """Cron expression of the regular retrain, such as `0 3 * * *` (a sixth column has the seconds);
    None: only on alerts."""
    timezone: Annotated[str, AfterValidator(time_zone)] = "UTC"
    """The time zone of `schedule`, such as Europe/Berlin."""


class SearchedParameter(Section):
    """What a parameter of a recipe may be: numbers from `low` to `high`, or one of `values`."""

    low: float = 0.0
    high: float = 1.0
    log: bool = False
    """Search by the logarithm."""
    whole: bool = False
    """Without fraction."""
    values: tuple[bool | int | float | str, ...] = ()

    @model_validator(mode="after")
    def _ascending(self) -> Self:
        if not self.values and (self.low >= self.high or (self.log and self.low <= 0)):
            above = " and above 0" if self.log else ""
            raise ValueError(f"low must be below high{above}: {self.low:g}, {self.high:g}")
        return self


class RetrainSettings(ModelSection):
    families: tuple[Annotated[str, Field(min_length=1)], ...] = Field(
        ("gradient-boosting", "tabular-network"), min_length=1
    )
    """The recipes that compete if a model names the recipe `tabular`."""
    max_rows: int = Field(200_000, ge=100)
    """The newest labelled rows that a retrain reads."""
    validation_share: float = Field(0.15, gt=0, lt=0.5)
    """The share of the rows that recipes are compared on."""
    holdout_share: float = Field(0.15, gt=0, lt=0.5)
    """The share of the rows, the newest, that the gate judges on."""
    budget_s: float = Field(30.0, ge=0)
    """Seconds in which recipes are compared, the search for better parameters included, and at most
    half of `deadline_s`; 0: no search. The recipes' own parameters are tried in any case."""
    trials: int = Field(50, ge=1, le=10_000)
    """The most sets of parameters that are tried within the budget."""
    trials_at_once: int = Field(1, ge=1, le=256)
    """How many sets of parameters are chosen before any of them is tried, so that they can be tried
    at the same time."""
    ray_address: Annotated[str | None, AfterValidator(host_port)] = None
    """HOST:PORT of a Ray cluster that tries them, of which this machine must be a node; None: one
    after another on this machine."""
    ray_cpus: float = Field(1.0, gt=0, le=1_024)
    """The CPU cores that a trial asks Ray for."""
    ray_gpus: float = Field(0.0, ge=0, le=64)
    """The GPUs that a trial asks Ray for."""
    sampler: Literal["tpe", "random", "grid"] = "tpe"
    """How parameters are chosen: by what was good before (TPE), at random, or by a grid."""
    prune: bool = True
    """End trials early that are not among the best (successive halving)."""
    spaces: dict[str, dict[str, SearchedParameter]] = Field(default_factory=dict)
    """Parameters to search, by recipe and name, in place of the recipe's."""
    continue_champion: bool = True
    """Let the champion, continued on the rows that are newer than it, compete with models trained
    anew (within the budget)."""
    ensemble: int = Field(3, ge=1, le=10)
    """The most models of a weighted ensemble, which is taken if it is better by more than noise;
    1: none. Without a budget there is none."""
    validation: Literal["newest", "rolling", "k-fold"] = "newest"
    """What recipes are compared on: the newest rows before the hold-out, several windows of that
    size, each of which is newer than what is trained on, or random parts."""
    validation_splits: int = Field(4, ge=2, le=20)
    """The windows of `rolling`, the parts of `k-fold`."""
    min_improvement: float = Field(0.0)
    """The candidate's mean hold-out loss must be lower than the champion's by more than this; of
    the loss in [0, 1], in regression in shares of the champion's mean error."""
    max_regression: float = Field(0.05, ge=0)
    """The most that the candidate's mean loss may exceed the champion's on any slice, in the unit
    of `min_improvement`."""
    min_slice_rows: int = Field(100, ge=1)
    """Slices with fewer hold-out rows are not judged."""
    max_left_out: float = Field(0.2, ge=0, le=1)
    """The largest share of the rows that may be left out because of their values (`train` rules in
    the spec's `options.inputs`, infinite numbers); with more, the retrain fails."""
    leaks: Literal["fail", "warn"] = "fail"
    """What follows from a column that equals the label: the retrain fails, or its record warns."""
    calibrate: bool = True
    """Calibrate a candidate's probabilities inside its graph if that lowers their log loss on
    validation rows by more than noise."""
    decide: Literal["costs", "likeliest"] = "costs"
    """How a candidate's label follows from its probabilities: `costs`: the answer that costs least,
    if the objective is `cost` or `balanced_error`; `likeliest`: the class with the highest one."""
    interval: float | None = Field(None, ge=0.5, lt=1)
    """Of a regression: the share of the labels that an interval covers, whose ends are the further
    outputs `lower` and `upper` of a candidate; None: no interval."""
    prediction_set: float | None = Field(None, ge=0.5, lt=1)
    """Of a classification: the share of the labels that a set of classes covers, which is the
    further output `prediction_set` of a candidate; None: no set."""
    optimise: Literal["auto", "int8", "fp16", "off"] = "auto"
    """A twin of the candidate's graph with large matrices as 8-bit integers or in half precision:
    `auto`: kept if its loss is shown to be no higher and it is shown to be faster on this machine;
    `int8`, `fp16`: kept in any case; `off`: never."""
    parity_tolerance: float = Field(1e-4, gt=0)
    """The largest difference allowed between the exported graph's outputs and the native
    model's."""
    deadline_s: float = Field(3_600.0, gt=0)
    """Seconds after which a retrain fails."""
    retries: int = Field(2, ge=0, le=10)
    """How often a retrain that failed is tried again; not one that a person asked for, or that its
    data refuse."""
    retry_delay_s: float = Field(300.0, ge=0)
    """Seconds until the first retry; each further one waits four times as long."""
    cores: Annotated[int, GLOBAL] = Field(1, ge=1, le=256)
    """The most retrains, of different models, that run at the same time, each on one core; the
    others wait their turn."""
    memory_mb: int | None = Field(None, ge=256)
    """The memory, in MiB, above which a retrain's process fails; default: three quarters of the
    machine's, shared by `cores` retrains."""
    nice: Annotated[int, GLOBAL] = Field(10, ge=0, le=19)
    """The niceness of the process that trains: serving has priority."""
    seed: int = Field(0, ge=0, lt=2**31)
    """The seed of all random choices of a training."""


class RolloutSettings(ModelSection):
    auto_start: bool = True
    """Start a rollout for each candidate that passes the gate."""
    shadow_share: float = Field(1.0, ge=0, le=1)
    """The share of live rows that a candidate answers unseen, in a process of its own, before it
    gets traffic; 0: no shadow, the canary comes first."""
    shadow_cpu: float = Field(0.01, gt=0)
    """The share of one core that live rows in the shadow take while the machine is busy, answers
    and comparisons together. Labelled rows that wait at its start are answered at once."""
    shadow_busy_from: float = Field(0.4, ge=0, le=1)
    """The share of all cores' time, without what gives way to others, from which on the machine of
    the role `rollout` is busy; 0: always."""
    shadow_rows: int = Field(20_000, ge=0, le=1_000_000)
    """The most labelled rows newer than its training data that a candidate answers when its shadow
    begins; 0: only live rows."""
    shadow_s: float = Field(600.0, gt=0)
    """Seconds after which a candidate that was shown neither better nor worse leaves the shadow for
    the canary."""
    shadow_memory_bytes: int | None = Field(None, gt=0)
    """The memory of the process that a candidate answers in; null: in proportion to its files."""
    steps: tuple[Annotated[float, Field(gt=0, le=1)], ...] = (0.05, 0.25, 0.5, 1.0)
    """The canary's shares of the traffic, ascending; 1 is the promotion, whether written or not."""
    interval_s: Annotated[float, GLOBAL] = Field(1.0, gt=0)
    """Seconds between two cycles of the rollout controller."""
    quality_margin: float = Field(0.02, gt=0, lt=1)
    """A rise of the mean loss that a canary must be shown not to have."""
    error_margin: float = Field(0.01, gt=0, lt=1)
    """A rise of the share of failed requests that a canary must be shown not to have."""
    latency_margin: float = Field(0.1, gt=0, lt=1)
    """Allowed rise of the share of requests above the champion's 95th percentile."""
    sticky_s: Annotated[float, Field(ge=1, le=31_536_000)] | Literal["forever"] = 300.0
    """How many seconds a routing key stays on its arm; then all keys are drawn anew, and the rows
    of that time count. `forever`: it changes only when the canary's share grows, and each key
    counts once a step, with its rows of the step's first day: a verdict needs many keys then."""
    label_age_s: float | None = Field(None, ge=0)
    """Only predictions at least this many seconds old are compared, so that nearly all labels have
    been received. None: the age is learned from the champion's labels, and rows of which nearly all
    are labelled earlier are compared earlier. 0: only `label_coverage` decides."""
    label_coverage: float = Field(0.98, gt=0, le=1)
    """Rows are compared once this share of them is labelled in either arm, or once they are as old
    as the age by which this share of the labels that ever come has come."""
    unequal_labels: Literal["hold", "compare"] = "hold"
    """What happens if labels come for different shares of the arms' rows. `hold`: they are not
    compared, and the rollout says so. `compare`: the arm with more labels loses some at random, so
    that the shares are equal. That assumes that in each arm a label comes as often for right as
    for wrong answers, or that both arms are alike in that."""
    latency_floor_s: float = Field(0.05, ge=0)
    """A request faster than this many seconds never counts as slow, regardless of the champion's
    95th percentile."""
    promote_unlabelled: bool = True
    """Whether a model whose quality is not judged (it has no `task`) may be promoted on errors and
    latency alone; false: it is held until an operator promotes it."""
    promote: Literal["when_not_worse", "when_better"] = "when_not_worse"
    """What must be shown of a candidate before its promotion: that it is not worse by the margin,
    or also that it is better than the champion."""
    approve: tuple[Literal["canary", "promote"], ...] = ()
    """What waits for a person (`driftloop rollout approve`): the first traffic of a candidate
    (`canary`), and its promotion when that is proven (`promote`)."""
    change_windows: tuple[Annotated[str, AfterValidator(change_window)], ...] = ()
    """When a candidate may get more traffic, such as `Mon-Fri 09:00-16:30`; empty: always. Harm is
    rolled back at any time."""
    timezone: Annotated[str, AfterValidator(time_zone)] = "UTC"
    """The time zone of `change_windows`, such as Europe/Berlin."""
    max_exposure_rows: int | None = Field(None, ge=1)
    """The most rows that a candidate may answer before a verdict; None: no limit. Then it gets no
    more traffic, and is rolled back if those rows give no verdict when their labels have come."""
    max_exposure_loss: float | None = Field(None, gt=0)
    """The same for the loss that a candidate may add: its judged rows times the loss that they
    were worse by, and the margin for each row that waits for its label."""
    group: str | None = Field(None, min_length=1)
    """Of the models that name the same group, one is rolled out at a time; the others wait."""
    holdback: float = Field(0.05, ge=0, lt=0.5)
    """The share of the traffic that the former champion keeps after a promotion until the labels of
    the promotion have come, so that harm shown by then rolls back; 0: none. It needs labels. If
    the candidate was judged in the shadow, the former champion answers there, without traffic."""
    load_timeout_s: float = Field(300.0, gt=0)
    """Seconds after which a candidate that replicas have not loaded is rolled back."""
    deadline_s: float = Field(7 * 86_400.0, gt=0)
    """Seconds after which a rollout without a verdict is rolled back."""
