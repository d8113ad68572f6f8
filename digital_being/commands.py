"""Command `model`: the scripted model in Ollama's API."""

from __future__ import annotations

from typing import Any

import click

from tickover.errors import InfrastructureError


@click.command("model")
@click.option("--host", default="127.0.0.1", show_default=True, show_envvar=True, help="Address to listen on.")
@click.option("--port", default=11434, show_default=True, show_envvar=True, help="Port; 0 takes a free one.")
@click.option("--seed", default=7, show_default=True, show_envvar=True, help="Equal seeds give equal answers.")
@click.option("--time-scale", default=1.0, show_default=True, show_envvar=True, help="Scale of latencies; 1 is real.")
@click.option("--quick", is_flag=True, help="Answer at once and without errors.")
@click.option(
    "--error-rate", type=click.FloatRange(0, 1), default=None, help="Share of chats that fail when first asked."
)
@click.option(
    "--malformed-rate", type=click.FloatRange(0, 1), default=None, help="Share of JSON answers that are broken."
)
@click.option("--slow-rate", type=click.FloatRange(0, 1), default=None, help="Share of chats that take 21 to 40 s.")
def model(
    host: str, port: int, seed: int, time_scale: float, quick: bool, error_rate: float | None,
    malformed_rate: float | None, slow_rate: float | None,
) -> None:  # fmt: skip
    """Serve a scripted language model in Ollama's API; its URL is the first line of output."""
    from dataclasses import replace

    from digital_being.model_server import ModelServer, ModelSettings

    settings = ModelSettings.quick(seed) if quick else ModelSettings(seed=seed, time_scale=time_scale)
    rates: dict[str, float | None] = {
        "error_rate": error_rate,
        "malformed_rate": malformed_rate,
        "slow_rate": slow_rate,
    }
    given: dict[str, Any] = {name: rate for name, rate in rates.items() if rate is not None}
    settings = replace(settings, **given)
    try:
        server = ModelServer(settings, host, port)
    except OSError as error:
        raise InfrastructureError(
            f"cannot listen on {host}:{port} ({error.strerror}); choose another --port, or 0 for a free one"
        ) from error
    click.echo(server.url)
    try:
        server.serve_forever(poll_interval=0.1)
    finally:
        server.server_close()


COMMANDS: list[click.Command] = [model]
