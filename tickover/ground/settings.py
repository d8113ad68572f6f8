"""Settings, from the environment and `.env`."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Literal

from pydantic import AliasChoices, Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from tickover.errors import ConfigurationError
from tickover.ground.secrets import redact_url


class Settings(BaseSettings):
    """All settings, read once per process; immutable. Each field names its environment variable.

    Durations ending in `_s` are seconds of real time whatever the time scale, except `step_timeouts`, which scale.
    """

    model_config = SettingsConfigDict(
        env_prefix="TICKOVER_", env_file=".env", env_nested_delimiter="__", extra="ignore", frozen=True
    )

    database_url: str | None = Field(None, validation_alias=AliasChoices("DATABASE_URL", "database_url"))
    redis_url: str | None = Field(None, validation_alias=AliasChoices("REDIS_URL", "redis_url"))
    broker_url: str | None = Field(None, validation_alias=AliasChoices("CELERY_BROKER_URL", "broker_url"))
    # Accepted because deployments set it; nothing is stored in a result backend.
    result_backend: str | None = Field(None, validation_alias=AliasChoices("CELERY_RESULT_BACKEND", "result_backend"))
    data_dir: Path = Path(".tickover")
    workload: str = "digital_being:heavy_tick"
    time_scale: float = Field(1.0, gt=0)
    # Step name -> limit of one attempt in seconds at scale 1; overrides the workload's.
    step_timeouts: dict[str, float] = Field(default_factory=dict)
    model_url: str | None = Field(
        None, validation_alias=AliasChoices("TICKOVER_MODEL_URL", "OLLAMA_HOST", "model_url")
    )
    model_name: str = "being"
    lease_s: float = Field(30.0, gt=0)
    heartbeat_s: float = Field(5.0, gt=0)
    sweep_s: float = Field(0.5, gt=0)
    max_result_bytes: int = Field(1_000_000, gt=0)
    log_level: str = "INFO"
    pool: Literal["prefork", "threads"] = "prefork"
    concurrency: int = Field(4, ge=1)

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
        shown: dict[str, object] = {}
        for name, value in self.model_dump().items():
            shown[name] = redact_url(value) if isinstance(value, str) else value
        return shown


@lru_cache(maxsize=1)
def get_settings() -> Settings:
    """The settings of this process. Raises ConfigurationError naming the variable that is wrong."""
    try:
        return Settings()  # type: ignore[call-arg]
    except ValidationError as error:
        problems = "; ".join(
            f"{'__'.join(str(part) for part in problem['loc']).upper()}: {problem['msg']}"
            for problem in error.errors(include_input=False)
        )
        raise ConfigurationError(f"a setting is wrong: {problems}; mend it in the environment or in .env") from None


def reset_settings() -> None:
    """Forget the settings, so that the next reader sees a changed environment."""
    get_settings.cache_clear()
