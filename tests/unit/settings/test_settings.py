from pathlib import Path

import pytest

from driftloop_contracts.errors import Rejected
from driftloop_settings import load_settings, read_settings
from driftloop_settings.describe import known_keys


def test_a_later_source_wins(tmp_path: Path) -> None:
    file = tmp_path / "driftloop.toml"
    file.write_text(
        "[control]\ninsecure = true\n[serving]\nport = 1\nreplicas = 2\nhost = 'file'\n"
    )
    settings = load_settings(
        ["serving.port=3"],
        file=file,
        environ={"DRIFTLOOP_SERVING__PORT": "2", "DRIFTLOOP_SERVING__REPLICAS": "5"},
    )
    assert settings.serving.port == 3
    assert settings.serving.replicas == 5
    assert settings.serving.host == "file"


@pytest.mark.parametrize(
    ("overrides", "environ", "names"),
    [
        (["serving.ingres=direct"], {}, "serving.ingress"),
        (["servin.port=1"], {}, "serving.port"),
        ([], {"DRIFTLOOP_KAFKA__BOOTSTRAP_SERVER": "x"}, "kafka.bootstrap_servers"),
        (["serving"], {}, "section.key=value"),
        (["serving.ingress=fast"], {}, "serving.ingress"),
        (["serving.port=many"], {}, "serving.port"),
        (["serving.min_replicas=3", "serving.max_replicas=2"], {}, "3 replicas"),
        (["llm.tune_rank=8"], {}, r"`llm.tune_rank` is `tuning.rank` now"),
        ([], {"DRIFTLOOP_LLM__JUDGE_URL": "x"}, r"LLM__JUDGE_URL: .*`judge.url` now"),
        (["judge.url=http://h/v1"], {}, "judge.model"),
    ],
)
def test_what_is_wrong_is_named(overrides: list[str], environ: dict[str, str], names: str) -> None:
    with pytest.raises(Rejected, match=names):
        load_settings(overrides, environ=environ)


def test_an_unknown_key_in_the_file_names_the_file(tmp_path: Path) -> None:
    file = tmp_path / "my.toml"
    file.write_text("[lake]\nflush_row = 1\n")
    with pytest.raises(Rejected, match=r"my\.toml.*lake\.flush_rows"):
        load_settings(file=file, environ={})


def test_a_file_that_is_no_toml_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "my.toml"
    file.write_text("[lake")
    with pytest.raises(Rejected, match=r"my\.toml"):
        load_settings(file=file, environ={})


def test_passwords_are_not_shown() -> None:
    settings = load_settings(["kafka.sasl_password=hunter2"], environ={})
    assert "hunter2" not in settings.model_dump_json() + repr(settings)


def test_lists_and_nulls_are_yaml() -> None:
    settings = load_settings(["rollout.steps=[0.1, 1.0]", "trigger.schedule=null"], environ={})
    assert settings.rollout.steps == (0.1, 1.0)
    assert settings.trigger.schedule is None


def test_every_section_lists_its_keys() -> None:
    assert {"state_dir", "serving.ingress", "kafka.port", "rollout.steps"} <= set(known_keys())


def test_settings_say_where_each_value_comes_from(tmp_path: Path) -> None:
    file = tmp_path / "my.toml"
    file.write_text("[serving]\nport = 1\nreplicas = 2\n")
    environ = {"DRIFTLOOP_SERVING__PORT": "2"}
    loaded = read_settings(["kafka.port=3"], file=file, environ=environ)
    assert loaded.sources == {
        "serving.port": "environment variable DRIFTLOOP_SERVING__PORT",
        "serving.replicas": str(file),
        "kafka.port": "--set kafka.port",
    }


@pytest.mark.parametrize(
    ("sets", "ingress"),
    [
        ([], "direct"),
        (["serving.ray_address=head:6379"], "haproxy"),
        (["serving.ray_address=head:6379", "serving.ingress=direct"], "direct"),
        (["serving.ingress=haproxy"], "haproxy"),
    ],
)
def test_the_ingress_is_direct_on_one_machine_and_haproxy_on_a_cluster(
    sets: list[str], ingress: str
) -> None:
    settings = load_settings(sets, environ={})
    assert settings.model_dump(mode="json")["serving"]["ingress"] == ingress


@pytest.mark.parametrize("password", ["123", "#x", "a: b", "null", "[1]", " x "])
def test_a_password_in_the_environment_is_taken_as_it_is(password: str) -> None:
    settings = load_settings(environ={"DRIFTLOOP_KAFKA__SASL_PASSWORD": password})
    assert settings.kafka.sasl_password is not None
    assert settings.kafka.sasl_password.get_secret_value() == password
