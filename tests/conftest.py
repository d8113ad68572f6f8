"""Fixtures: real servers once per session, and a fresh migrated database for each test that asks for one."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Protocol

import psycopg2
import pytest

from tickover.ground import migrate
from tickover.ground.database import dispose_engines, engine
from tickover.ground.servers import Endpoints, release, use
from tickover.ground.settings import Settings, reset_settings

ROOT = Path(__file__).resolve().parents[1]
TEMPLATE = "template_tickover"
_URLS = ("DATABASE_URL", "REDIS_URL", "CELERY_BROKER_URL", "CELERY_RESULT_BACKEND", "OLLAMA_HOST")


def clean_environment(**more: str) -> dict[str, str]:
    """This process's environment without any setting of Tickover's, and with what is given; for child processes."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TICKOVER_")}
    return {name: value for name, value in kept.items() if name not in _URLS} | {"PYTHONPATH": str(ROOT)} | more


class RunCommand(Protocol):
    """Runs `tickover` as a subprocess."""

    def __call__(
        self, *arguments: str, timeout_s: float = 60, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """What the command with these arguments, in this environment, ended with and wrote."""


@contextmanager
def data_directory(prefix: str) -> Iterator[Path]:
    """An empty data directory that root's PostgreSQL can pass into; what runs in it in the end is stopped."""
    # Not pytest's: that one is closed to the user as which root's PostgreSQL runs.
    made = Path(tempfile.mkdtemp(prefix=prefix))
    made.chmod(0o755)
    yield made
    release(Settings(_env_file=None, data_dir=made), force=True)  # type: ignore[call-arg]
    shutil.rmtree(made)


@contextmanager
def scripted_model(**settings: float) -> Iterator[str]:
    """The URL of the being's model, which makes no errors and, unless the settings say otherwise, answers at once."""
    from digital_being.model_server import ModelServer, ModelSettings

    server = ModelServer(ModelSettings.quick(malformed_rate=0.0, **settings)).start()
    yield server.url
    server.stop()


@pytest.fixture(scope="session")
def calm_model() -> Iterator[str]:
    """The URL of a model with which a tick of the being fails only if something is wrong."""
    with scripted_model() as url:
        yield url


@pytest.fixture(autouse=True)
def clean_settings(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No setting of the surroundings reaches a test."""
    for name in set(os.environ) - clean_environment().keys():
        monkeypatch.delenv(name)
    monkeypatch.setitem(Settings.model_config, "env_file", None)
    reset_settings()
    yield
    reset_settings()


@pytest.fixture(scope="session")
def servers() -> Iterator[Endpoints]:
    """One embedded PostgreSQL and Redis for the session, with a migrated template database."""
    # The settings are made here, not read: nothing of the surroundings must reach the tests.
    # pytest closes its own temporary directories to other users, and root's PostgreSQL runs as one.
    data_dir = Path(tempfile.mkdtemp(prefix="tickover-tests-"))
    data_dir.chmod(0o711)
    settings = Settings.model_construct(
        **{**{name: field.get_default(call_default_factory=True) for name, field in Settings.model_fields.items()},
           "data_dir": data_dir}
    )  # fmt: skip
    with use(settings) as endpoints:
        _execute(endpoints.database_url, f'CREATE DATABASE "{TEMPLATE}"')
        target = engine(_with_database(endpoints.database_url, TEMPLATE))
        migrate.upgrade(target)
        target.dispose()
        yield endpoints
    release(settings)
    shutil.rmtree(data_dir)


@pytest.fixture
def database(servers: Endpoints, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The URL of a fresh, migrated database, which is also DATABASE_URL."""
    with _database(servers, monkeypatch, f'TEMPLATE "{TEMPLATE}"') as url:
        yield url


@pytest.fixture
def empty_database(servers: Endpoints, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The URL of a fresh database without any table, which is also DATABASE_URL."""
    with _database(servers, monkeypatch) as url:
        yield url


@contextmanager
def _database(servers: Endpoints, monkeypatch: pytest.MonkeyPatch, how: str = "") -> Iterator[str]:
    name = f"test_{uuid.uuid4().hex[:12]}"
    _execute(servers.database_url, f'CREATE DATABASE "{name}" {how}')
    url = _with_database(servers.database_url, name)
    monkeypatch.setenv("DATABASE_URL", url)
    reset_settings()
    yield url
    engine(url).dispose()
    dispose_engines()
    _execute(servers.database_url, f'DROP DATABASE "{name}" WITH (FORCE)')


@pytest.fixture
def broker(servers: Endpoints, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of an emptied broker, which is also CELERY_BROKER_URL."""
    import redis

    assert servers.redis_url is not None
    with closing(redis.Redis.from_url(servers.redis_url)) as client:
        client.flushall()
    monkeypatch.setenv("CELERY_BROKER_URL", servers.broker_url)
    monkeypatch.setenv("REDIS_URL", servers.redis_url)
    reset_settings()
    return servers.broker_url


@pytest.fixture
def tickover(tmp_path: Path) -> RunCommand:
    """Run `python cli.py` with arguments in an empty directory, with no setting but those given as keywords."""

    def run(*arguments: str, timeout_s: float = 60, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, str(ROOT / "cli.py"), *arguments], env=clean_environment(**environment), cwd=tmp_path,
            capture_output=True, text=True, timeout=timeout_s, check=False,
        )  # fmt: skip

    return run


def _with_database(url: str, name: str) -> str:
    return url.replace("/tickover?", f"/{name}?")


def _execute(url: str, statement: str) -> None:
    with closing(psycopg2.connect(url)) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(statement)
