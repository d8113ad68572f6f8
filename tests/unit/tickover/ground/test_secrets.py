"""Passwords never show."""

import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tickover.ground.secrets import RedactingFormatter, redact_url
from tickover.ground.settings import Settings

PASSWORD = "s3cr3t"


@pytest.mark.parametrize(
    "text",
    [
        f"postgresql://user:{PASSWORD}@host/db",
        f"redis://:{PASSWORD}@host:6379/0",
        f"redis://host1/0;redis://:{PASSWORD}@host2/0",
        f"amqp://guest:{PASSWORD}@host// and amqp://guest:{PASSWORD}@other//",
        f"postgresql://user:{PASSWORD}@with@signs@host/db",
        f"postgresql://user:{PASSWORD}/with/slashes:9@host/db",
        f"postgresql://user:{PASSWORD}://{PASSWORD}@host/db",
        f"redis://host1:6379/0,redis://:{PASSWORD}@host2/0",
        f"postgresql+psycopg2://user:{PASSWORD}@/db?host=/tmp/x",
        f"postgresql://host/db?user=u&password={PASSWORD}&sslmode=require",
        f"host=h password={PASSWORD} dbname=d",
        f"host=h password='{PASSWORD} {PASSWORD}' dbname=d",
        f"{{'password': '{PASSWORD}'}}",
        f'{{"password": "{PASSWORD}"}}',
        f"PGPASSWORD={PASSWORD}",
    ],
)
def test_password_is_hidden(text: str) -> None:
    """Whatever form a password is written in, it is replaced."""
    assert PASSWORD not in redact_url(text)
    assert "***" in redact_url(text)


@pytest.mark.parametrize(
    "text",
    [
        "postgresql://postgres@/tickover?host=/tmp/x&port=5432",
        "redis+socket:///tmp/x/redis.sock",
        "http://localhost:11434/api/chat",
        "tick 12: step 'goal_selection' failed at 10:30:00 (mail a@b.example)",
    ],
)
def test_other_text_is_left_alone(text: str) -> None:
    """What has no password is shown as it is."""
    assert redact_url(text) == text


@given(st.text(st.characters(codec="utf-8", exclude_categories=("Z", "C"), exclude_characters="'\""), min_size=8))
def test_no_password_survives_in_a_url(password: str) -> None:
    """A URL's password is hidden whatever characters it has, white space and quotes (never part of one) apart."""
    marked = f"<{password}>"
    assert marked not in redact_url(f"connecting to postgresql://user:{marked}@host:5432/db failed")


def test_log_lines_and_tracebacks_hide_passwords() -> None:
    """A password in a log argument or in the text of an exception does not reach the log."""
    try:
        raise ValueError(f"bad postgresql://user:{PASSWORD}@host/db")
    except ValueError as error:
        record = logging.LogRecord(
            "name", logging.ERROR, __file__, 1, "failed for %s", (f"redis://:{PASSWORD}@h",),
            (type(error), error, error.__traceback__),
        )  # fmt: skip
    line = RedactingFormatter().format(record)
    assert PASSWORD not in line
    assert "redis://:***@h" in line
    assert "ValueError" in line


def test_settings_show_no_password(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither `repr`, nor `str`, nor `redacted()` of the settings has a password; the field itself does."""
    monkeypatch.setenv("DATABASE_URL", f"postgresql://user:{PASSWORD}@host/db")
    monkeypatch.setenv("CELERY_BROKER_URL", f"redis://:{PASSWORD}@host")
    settings = Settings()
    for shown in (repr(settings), str(settings), str(settings.redacted())):
        assert PASSWORD not in shown
        assert "host/db" in shown
    assert settings.database_url is not None
    assert PASSWORD in settings.database_url
