"""Settings, from the environment and `.env`."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from pydantic import AliasChoices, Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict, SettingsError

from tickover.errors import ConfigurationError
from tickover.ground.secrets import redact_url

PREFIX = "TICKOVER_"


def _named(*names: str) -> AliasChoices:
    return AliasChoices(*names)


class Settings(BaseSettings):
    """All settings, read once per process; immutable. Each field names its environment variable: TICKOVER_ and its
    name, or what `_named` says. An empty variable is an unset one.

    Durations ending in `_s` are seconds of real time whatever the time scale, except `step_timeouts`, which scale.
    """

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_file=".env", env_nested_delimiter="__", env_ignore_empty=True, extra="ignore",
        frozen=True,
    )  # fmt: skip

    database_url: str | None = Field(None, validation_alias=_named("DATABASE_URL", "database_url"))
    redis_url: str | None = Field(None, validation_alias=_named("REDIS_URL", "redis_url"))
    broker_url: str | None = Field(None, validation_alias=_named("CELERY_BROKER_URL", "broker_url"))
    # Accepted because deployments set it; nothing is stored in a result backend.
    result_backend: str | None = Field(None, validation_alias=_named("CELERY_RESULT_BACKEND", "result_backend"))
    data_dir: Path = Path(".tickover")
    workload: str = "digital_being:heavy_tick"
    time_scale: float = Field(1.0, gt=0)
    # Step name -> limit of one attempt in seconds at scale 1; overrides the workload's.
    step_timeouts: dict[str, float] = Field(default_factory=dict)
    model_url: str | None = Field(None, validation_alias=_named("TICKOVER_MODEL_URL", "OLLAMA_HOST", "model_url"))
    model_name: str = "being"
    lease_s: float = Field(30.0, gt=0)
    heartbeat_s: float = Field(5.0, gt=0)
    sweep_s: float = Field(0.5, gt=0)
    max_result_bytes: int = Field(1_000_000, gt=0)
    log_level: str = "INFO"
    pool: Literal["prefork", "threads"] = "prefork"
    concurrency: int = Field(4, ge=1)

    @field_validator("data_dir")
    @classmethod
    def _absolute(cls, value: Path) -> Path:
        # A process that changes its directory later must still mean the same one.
        return value.expanduser().absolute()

    @field_validator("step_timeouts")
    @classmethod
    def _limits(cls, value: dict[str, float]) -> dict[str, float]:
        for step, limit_s in value.items():
            if not 0 < limit_s < float("inf"):
                raise ValueError(f"the limit of step {step.lower()!r} must be seconds above 0, not {limit_s:g}")
        return {step.lower(): limit_s for step, limit_s in value.items()}

    @field_validator("model_url")
    @classmethod
    def _with_scheme(cls, value: str | None) -> str | None:
        # OLLAMA_HOST is often a bare host, and then means Ollama's port.
        if value is None or "://" in value:
            return value
        return f"http://{value}" if ":" in value else f"http://{value}:11434"

    @field_validator("log_level")
    @classmethod
    def _known_level(cls, value: str) -> str:
        if value.upper() not in logging.getLevelNamesMapping():
            raise ValueError("the levels are DEBUG, INFO, WARNING, ERROR and CRITICAL")
        return value.upper()

    @property
    def embedded_database(self) -> bool:
        """Whether Tickover runs PostgreSQL itself."""
        return self.database_url is None

    @property
    def broker(self) -> str | None:
        """The broker's URL: CELERY_BROKER_URL, else REDIS_URL, else None (embedded)."""
        return self.broker_url or self.redis_url

    def redacted(self) -> dict[str, object]:
        """The settings for people to see: no password in any URL."""
        return {
            name: redact_url(value) if isinstance(value, str) else value
            for name, value in ((name, getattr(self, name)) for name in type(self).model_fields)
        }

    def __repr_args__(self) -> Iterable[tuple[str | None, Any]]:
        """What `repr` and `str` show: no password, so that a log line cannot leak one."""
        return self.redacted().items()


@lru_cache(maxsize=1)
def get_settings() -> Settings:
    """The settings of this process. Raises ConfigurationError naming the variable that is wrong."""
    try:
        return Settings()  # type: ignore[call-arg]
    except ValidationError as error:
        problems = "; ".join(
            f"{_variable(problem['loc'])}: {problem['msg'].removeprefix('Value error, ')}"
            for problem in error.errors(include_input=False, include_context=False)
        )
        raise ConfigurationError(f"a setting is wrong: {problems}; mend it in the environment or in .env") from None
    except SettingsError as error:
        # Only step_timeouts is read as JSON.
        raise ConfigurationError(
            "TICKOVER_STEP_TIMEOUTS is no JSON object; write TICKOVER_STEP_TIMEOUTS__GOAL_SELECTION=120, or "
            "TICKOVER_STEP_TIMEOUTS='{\"goal_selection\": 120}'"
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f".env cannot be read ({error}); mend it or remove it") from error


@contextmanager
def environment(variables: Mapping[str, str]) -> Iterator[None]:
    """The settings with these variables, for this process and its children, as long as the context lasts."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    reset_settings()
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        reset_settings()


def reset_settings() -> None:
    """Forget the settings, so that the next reader sees a changed environment."""
    get_settings.cache_clear()


def _variable(location: tuple[int | str, ...]) -> str:
    name = "__".join(str(part) for part in location).upper()
    field = Settings.model_fields.get(str(location[0]))
    return PREFIX + name if field is not None and field.validation_alias is None else name
