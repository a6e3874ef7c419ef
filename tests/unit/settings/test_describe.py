from driftloop_settings import Scope, describe_settings


def test_every_setting_says_what_it_means() -> None:
    lacking = [setting.name for setting in describe_settings() if not setting.meaning]
    assert lacking == []


def test_a_description_has_default_scope_and_bounds() -> None:
    known = {setting.name: setting for setting in describe_settings()}
    interval, rows = known["monitoring.interval_s"], known["monitoring.window_rows"]
    assert (interval.scope, interval.default) == (Scope.GLOBAL, 2.0)
    assert interval.meaning == "Seconds between two monitoring cycles."
    assert (rows.scope, rows.default) == (Scope.MODEL, 2_000)
    assert known["serving.ingress"].allowed == "haproxy, direct"
    assert known["serving.target_load"].allowed == "> 0, < 1"
    assert known["state_dir"].section == ""


def test_where_conversations_and_keys_are_sent_is_global() -> None:
    scopes = {setting.name: setting.scope for setting in describe_settings()}
    assert {scopes["judge.url"], scopes["judge.key_env"]} == {Scope.GLOBAL}
