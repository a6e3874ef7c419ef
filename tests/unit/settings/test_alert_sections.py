"""Routes that cannot be used are refused at the start, with the key and without the secret."""

from pathlib import Path

import pytest

from driftloop_contracts.errors import Rejected
from driftloop_settings import Settings, load_settings


def loaded(tmp_path: Path, text: str) -> Settings:
    file = tmp_path / "driftloop.toml"
    file.write_text(text)
    return load_settings(file=file, environ={}, state_dir=tmp_path)


def route(to: str, more: str = "") -> str:
    return f'[[alerts.routes]]\nname = "a"\nto = "{to}"\n{more}\n'


@pytest.mark.parametrize(
    "to",
    [
        "https://hooks.example/x",
        "slack://hooks.slack.com/services/T/B/X",
        "teams://example.logic.azure.com/workflows/x?sig=y",
        "pagerduty://KEY",
        "pagerduty://KEY@events.eu.pagerduty.com",
        "alertmanager://host:9093",
        "mailto:a@example.org,b@example.org",
    ],
)
def test_every_kind_of_receiver_is_taken_and_never_shown(tmp_path: Path, to: str) -> None:
    settings = loaded(tmp_path, f'[alerts]\nsmtp = "smtp://u:hidden@h:25"\n{route(to)}')
    assert settings.alerts.routes[0].to.get_secret_value() == to
    shown = f"{settings!r} {settings.model_dump(mode='json')}"
    assert to not in shown
    assert "hidden" not in shown


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (route("htps://h/hidden"), r"alerts\.routes\.0\.to: unknown scheme 'htps'; did you mean"),
        (route("hidden"), r"alerts\.routes\.0\.to: it has no scheme"),
        (route("slack://"), r"alerts\.routes\.0\.to: write slack://"),
        (route("https://h:x/hidden"), r"alerts\.routes\.0\.to: write https://HOST/PATH"),
        (route("mailto:ops"), r"alerts\.routes\.0\.to: write mailto:"),
        (route("mailto:a@b"), r"alerts: routes\.0\.to: mailto: needs `alerts\.smtp`"),
        (
            route("https://h/x", 'colour = "red"'),
            r"alerts\.routes\.0\.colour: there is no such setting",
        ),
        (route("https://h/x", 'severity = "loud"'), r"alerts\.routes\.0\.severity"),
        (route("https://h/x", 'hours = "25:00-06:00"'), r"alerts\.routes\.0\.hours.*22:00-06:00"),
        (route("https://h/x", "repeat_s = -1"), r"alerts\.routes\.0\.repeat_s"),
        (route("https://h/x", "models = []"), r"alerts\.routes\.0\.models"),
        (2 * route("https://h/x"), r"two routes are called 'a'"),
        ('[alerts]\nlink = "*"', r"alerts\.link: write the console's address"),
        ('[alerts]\nsmtp = "http://hidden"', r"alerts\.smtp: write smtp://"),
        ('[alerts]\nheartbeat_url = "hidden"', r"alerts\.heartbeat_url: write https://"),
        ('[alerts]\nlinks_secret = "hidden"', r"alerts\.links_secret: write at least 32"),
        ('[alerts]\ndigest_at = "9"', r"alerts\.digest_at: '9' is not a time of day"),
        ("[alerts]\nrutes = []", r"unknown setting `alerts\.rutes`; did you mean `alerts\.routes`"),
    ],
)
def test_what_cannot_be_used_is_refused_with_its_key(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(Rejected, match=said) as raised:
        loaded(tmp_path, text)
    assert "hidden" not in str(raised.value)
