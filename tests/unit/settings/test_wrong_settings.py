"""Values that have a setting's type but that no role could use."""

import math
from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import SecretStr, ValidationError

from driftloop_contracts.errors import Rejected
from driftloop_contracts.model import ModelSpec
from driftloop_monitoring.watch.trigger import due
from driftloop_settings import Settings, load_settings
from driftloop_settings.section import Section

TOO_LONG_S = 1e12
FIELDS = [
    (section.annotation, key, field.annotation)
    for section in Settings.model_fields.values()
    if isinstance(section.annotation, type) and issubclass(section.annotation, Section)
    for key, field in section.annotation.model_fields.items()
]


def taken(fields: Iterable[tuple[type[Section], str, object]], *values: object) -> list[str]:
    """Return the settings that accept one of the values."""
    found = []
    for section, key, _ in fields:
        for value in values:
            with suppress(ValidationError):
                section(**{key: value})
                found.append(f"{section.__name__}.{key} = {value!r}")
    return found


def of_type(wanted: type) -> list[tuple[type[Section], str, object]]:
    return [field for field in FIELDS if wanted in (field[2], *get_args(field[2]))]


def test_every_number_is_finite_and_of_use() -> None:
    assert taken(of_type(float), math.nan, math.inf, -math.inf, 1e300) == []


def test_every_whole_number_fits_a_database() -> None:
    assert taken(of_type(int), 10**20, -(10**20)) == []


def test_every_duration_is_one_that_clocks_can_add() -> None:
    ends = ("_s", "_seconds", "_hours", "_days")
    assert taken((f for f in FIELDS if f[1].endswith(ends)), TOO_LONG_S, int(TOO_LONG_S)) == []


def test_no_text_is_blank_or_has_control_characters() -> None:
    assert taken([*of_type(str), *of_type(Path), *of_type(SecretStr)], "  ", "a\0b", "a\n") == []


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["trigger.schedule=0 3 * *"], "trigger.schedule: .*not a cron expression"),
        (["trigger.schedule=0 3 31 2 *"], "trigger.schedule: .*never occurs"),
        (["trigger.schedule=0 3 31 4,6 *"], "trigger.schedule: .*never occurs"),
        (["trigger.schedule=0 3 1 1 * 0 2020"], "trigger.schedule: .*a column for the year"),
        (["trigger.schedule=R 3 * * *"], "trigger.schedule: .*a random time"),
        (["trigger.timezone=Mars/Base"], "trigger.timezone: .*not a time zone"),
        (["trigger.timezone=../etc/passwd"], "trigger.timezone: .*not a time zone"),
        (["trigger.timezone=Europe"], "trigger.timezone: .*not a time zone"),
        (["monitoring.min_rows=2001"], "monitoring.min_rows 2001 is over"),
        (["monitoring.window_rows=300"], "monitoring.min_rows 500 is over"),
        (["monitoring.window_seconds=4"], "monitoring.window_least_seconds 5 is over"),
        (["monitoring.performance_margin=1"], "performance_margin: .*less than 1"),
        (["rollout.quality_margin=1.5"], "quality_margin: .*less than 1"),
        (["retrain.families=[]"], "retrain.families"),
        (["retrain.seed=-1"], "retrain.seed"),
        (["tuning.min_examples=300", "tuning.answers=200"], "tuning.min_examples 300 is over"),
        (["tuning.ray_address=h:1", "tuning.workers=3"], "tuning.batch 8 is not a multiple"),
        (["tuning.targets=,"], "tuning.targets"),
        (["serving.min_replicas=3", "serving.max_replicas=2"], "3 replicas"),
        (["serving.grpc_port=8000"], "serving.grpc_port: serving.port is 8000 too"),
        (["kafka.port=8001"], "kafka.port: control.port is 8001 too"),
        (["serving.host=0.0.0.0"], "serving.host=0.0.0.0 .*--insecure"),
        (["control.host=box-1"], "control.host=box-1 .*--insecure"),
        (["control.hosts=[a b]"], "control.hosts"),
        (["serving.host=my host"], "serving.host: .*neither a host name"),
        (["serving.host=300.1.1.1"], "serving.host: .*not an IPv4 address"),
        (["serving.host=::1"], "serving.host: .*IPv4"),
        (['control.host=""'], "control.host"),
        (["serving.ray_address=ray://head:10001"], "serving.ray_address"),
        (["kafka.bootstrap_servers=b:9092,"], "kafka.bootstrap_servers"),
        (["kafka.bootstrap_servers=b:port"], "kafka.bootstrap_servers: .*HOST:PORT"),
        (["kafka.security_protocol=SASL_SSL"], "needs kafka.sasl_username"),
        (["kafka.ssl_keyfile=k.pem"], "needs kafka.ssl_certfile"),
        (["lake.uri=ftp://h/lake"], "lake.uri: .*neither a path nor s3"),
        (["store.url=mysql://h/db"], "store.url: give sqlite"),
        (["store.url=store.db"], "store.url: give sqlite"),
    ],
)  # fmt: skip
def test_what_no_role_could_work_with_is_refused(overrides: list[str], said: str) -> None:
    with pytest.raises(Rejected, match=said):
        load_settings(overrides, environ={})


def test_a_broken_store_url_does_not_show_its_password() -> None:
    with pytest.raises(Rejected) as refused:
        load_settings(["store.url=postgres//me:hunter2@h/db"], environ={})
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize(
    "overrides",
    [
        ["serving.port=0", "serving.grpc_port=0", "control.port=0", "kafka.port=0"],
        ["kafka.port=8000", "kafka.bootstrap_servers=b"],
        ["kafka.bootstrap_servers=a:9092,[::1]:9092, c"],
        ["serving.host=0.0.0.0", "control.host=box-1.example.org", "control.insecure=true"],
        ["serving.host=localhost", "control.host=127.9.9.9"],
        ["serving.ray_address=auto"],
        ["trigger.schedule=@daily", "trigger.timezone=America/Argentina/Ushuaia"],
        ["trigger.schedule=0 0 29 2 *"],
        ["trigger.schedule=* * * * * */5"],
        ["store.url=postgresql+psycopg://me:x@h/db", "lake.uri=s3://bucket/lake"],
    ],
)
def test_what_roles_can_work_with_is_taken(overrides: list[str]) -> None:
    load_settings(overrides, environ={})


@pytest.mark.parametrize(
    ("section", "given", "said"),
    [
        ("trigger", {"schedule": "0 3 31 2 *"}, r"policy.trigger.schedule: .*never occurs"),
        ("monitoring", {"window_rows": 300}, r"policy.monitoring: monitoring.min_rows 500 is over"),
        ("monitoring", {"label_timeout_s": math.inf}, r"policy.monitoring.label_timeout_s: .*fini"),
        ("rollout", {"deadline_s": TOO_LONG_S}, r"policy.rollout.deadline_s: .*100 years"),
    ],
)
def test_a_models_policy_is_refused_for_the_same(
    section: str, given: dict[str, object], said: str
) -> None:
    with pytest.raises(Rejected, match=said):
        Settings().for_model(ModelSpec("m", policy={section: given}))


columns = st.tuples(
    *(
        st.one_of(st.just("*"), st.integers(0, top).map(str), st.integers(1, 9).map("*/{}".format))
        for top in (60, 24, 32, 13, 7)
    )
).map(" ".join)


@settings(max_examples=40)
@given(
    columns | st.text("0123456789*/,-LWhHrR#@ ", max_size=14),
    st.sampled_from(["UTC", "Europe/Berlin", "Asia/Kathmandu", "Pacific/Apia"]),
    st.datetimes(datetime(2020, 1, 1), datetime(2060, 1, 1)),
)
def test_a_schedule_that_is_taken_can_be_evaluated_at_any_time(
    schedule: str, zone: str, naive: datetime
) -> None:
    try:
        Settings().for_model(
            ModelSpec("m", policy={"trigger": {"schedule": schedule, "timezone": zone}})
        )
    except Rejected:
        return
    now = naive.replace(tzinfo=UTC)
    found = due(schedule, zone, now - timedelta(days=366 * 12), now)
    assert found is not None
    assert found <= now
