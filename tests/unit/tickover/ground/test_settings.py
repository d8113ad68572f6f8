"""Settings: where they come from, and what a wrong one says."""

from pathlib import Path

import pytest

from tickover.errors import ConfigurationError
from tickover.ground.settings import Settings, get_settings, reset_settings


def test_step_limits_come_from_one_variable_each(monkeypatch: pytest.MonkeyPatch) -> None:
    """TICKOVER_STEP_TIMEOUTS__GOAL_SELECTION=120 limits step goal_selection to 120 s."""
    monkeypatch.setenv("TICKOVER_STEP_TIMEOUTS__GOAL_SELECTION", "120")
    monkeypatch.setenv("TICKOVER_STEP_TIMEOUTS__Meta", "2.5")
    assert get_settings().step_timeouts == {"goal_selection": 120.0, "meta": 2.5}


def test_broker_falls_back_to_redis_url(monkeypatch: pytest.MonkeyPatch) -> None:
    """REDIS_URL serves as the broker unless CELERY_BROKER_URL is set."""
    monkeypatch.setenv("REDIS_URL", "redis://a")
    assert get_settings().broker == "redis://a"
    monkeypatch.setenv("CELERY_BROKER_URL", "amqp://b")
    reset_settings()
    assert get_settings().broker == "amqp://b"


def test_empty_variable_is_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty DATABASE_URL, as Compose files give, means the embedded server."""
    monkeypatch.setenv("DATABASE_URL", "")
    assert get_settings().database_url is None
    assert get_settings().embedded_database


def test_env_file_is_read_and_the_environment_wins(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """`.env` of the working directory gives settings; a variable of the same name stands above it."""
    (tmp_path / ".env").write_text("TICKOVER_LEASE_S=7\nTICKOVER_SWEEP_S=2\nTICKOVER_STEP_TIMEOUTS__META=9\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(Settings.model_config, "env_file", ".env")
    monkeypatch.setenv("TICKOVER_SWEEP_S", "3")
    settings = get_settings()
    assert (settings.lease_s, settings.sweep_s, settings.step_timeouts) == (7.0, 3.0, {"meta": 9.0})


def test_data_directory_stays_when_the_process_moves(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A relative data directory means the one below the directory in which the settings were read."""
    monkeypatch.chdir(tmp_path)
    settings = get_settings()
    monkeypatch.chdir("/")
    assert settings.data_dir == tmp_path / ".tickover"


@pytest.mark.parametrize(
    ("given", "meant"),
    [("box", "http://box:11434"), ("box:99", "http://box:99"), ("https://box/api", "https://box/api")],
)
def test_ollama_host_becomes_a_url(monkeypatch: pytest.MonkeyPatch, given: str, meant: str) -> None:
    """OLLAMA_HOST may be a bare host, as Ollama itself takes it."""
    monkeypatch.setenv("OLLAMA_HOST", given)
    assert get_settings().model_url == meant


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("TICKOVER_POOL", "gevent", "TICKOVER_POOL: Input should be 'prefork' or 'threads'"),
        ("TICKOVER_LEASE_S", "0", "TICKOVER_LEASE_S: Input should be greater than 0"),
        ("TICKOVER_LOG_LEVEL", "LOUD", "TICKOVER_LOG_LEVEL: the levels are"),
        ("TICKOVER_STEP_TIMEOUTS__META", "-1", "the limit of step 'meta' must be seconds above 0"),
        ("TICKOVER_STEP_TIMEOUTS__META", "nan", "the limit of step 'meta' must be seconds above 0"),
        ("TICKOVER_STEP_TIMEOUTS", "meta=3", "TICKOVER_STEP_TIMEOUTS__GOAL_SELECTION=120"),
    ],
)
def test_wrong_setting_is_named(monkeypatch: pytest.MonkeyPatch, name: str, value: str, told: str) -> None:
    """The error names the variable as the user wrote it, and says what it may be."""
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError) as caught:
        get_settings()
    assert told in str(caught.value)


def test_env_file_that_is_no_text_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A `.env` that cannot be read is an error that names it."""
    (tmp_path / ".env").write_bytes(b"\xff\xfe\x00A=1")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(Settings.model_config, "env_file", ".env")
    with pytest.raises(ConfigurationError, match=r"\.env cannot be read"):
        get_settings()
