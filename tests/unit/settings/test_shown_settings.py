import json

import pytest

from driftloop_console.views.settings_table import settings_table
from driftloop_settings import load_settings
from driftloop_settings.shown import shown_settings, without_passwords

SETTINGS = (
    "store.url=postgresql+psycopg://ops:hun/t3r@db:5432/driftloop",
    "registry.uri=https://ops:hunt3r@mlflow.example/api",
    "kafka.sasl_password=hunt3r",
    "capture.hash_key=hunt3r",
)


def test_nobody_is_shown_a_password() -> None:
    settings = load_settings(SETTINGS, environ={})
    table = settings_table(settings, [])
    for shown in (json.dumps(shown_settings(settings)), json.dumps(list(table.rows))):
        assert "hunt3r" not in shown
        assert "hun/t3r" not in shown
        assert "@db:5432/driftloop" in shown


@pytest.mark.parametrize(
    "text",
    ["sqlite:////srv/a@b/store.db", "s3://bucket/a:b@c", "postgresql://ops@db/x", "http://h:80/p"],
)
def test_an_address_without_a_password_is_shown_as_it_is(text: str) -> None:
    assert without_passwords(text) == text
