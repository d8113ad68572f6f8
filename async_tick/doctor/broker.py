"""What the doctor sees of the broker: whether it answers, and who else could speak to it."""

from __future__ import annotations

import contextlib
import ipaddress
import socket
from typing import Any
from urllib.parse import urlsplit

from async_tick.doctor.finding import Finding, ok, problem, warning
from tickover.ground.secrets import redact_url

# How long a broker may take to answer, in seconds.
ANSWER_S = 3.0
# Transports that do not leave their process: what one sends there, no worker hears.
_WITHIN_A_PROCESS = ("memory",)
_ANYWHERE = ("*", "-::*", "0.0.0.0", "::", "::*")


def broker_findings(url: str) -> list[Finding]:
    """What is seen of the broker at `url`; one finding if it does not answer."""
    scheme = url.partition("://")[0].partition("+")[0]
    if scheme in _WITHIN_A_PROCESS:
        return [problem(
            "broker", f"{redact_url(url)} exists within one process only: no worker hears what a loop sends",
            "set CELERY_BROKER_URL=redis://HOST:6379/0, or unset it to use the embedded Redis",
        )]  # fmt: skip
    reason = _unreachable(url)
    if reason is not None:
        return [problem(
            "broker", f"cannot reach the broker at {redact_url(url)}: {reason}",
            "check CELERY_BROKER_URL and that the server runs, or unset it to use the embedded Redis; what is in "
            "flight is not lost",
        )]  # fmt: skip
    exposed = _redis_exposure(url) if scheme in ("redis", "rediss") else exposure(url)
    return [ok("broker", f"answers at {redact_url(url)}"), exposed]


def _unreachable(url: str) -> str | None:
    """Why the broker does not answer; None if it does."""
    import kombu

    client: Any = kombu
    limits = {"socket_connect_timeout": ANSWER_S, "socket_timeout": ANSWER_S, "max_retries": 0}
    try:
        with client.Connection(url, connect_timeout=ANSWER_S, transport_options=limits) as connection:
            connection.ensure_connection(max_retries=1, interval_start=0, timeout=ANSWER_S)
            # A channel makes a client speak: a server that is there but stopped answers no one.
            connection.default_channel.close()
    except Exception as error:  # noqa: BLE001 - kombu's transports raise whatever their client raises
        return str(error).strip().split("\n")[0] or type(error).__name__
    return None


def reach(host: str) -> str:
    """From how far an address can be reached: "host", "network" or "public". An unknown name is "network"."""
    try:
        found = {ipaddress.ip_address(str(info[4][0]).partition("%")[0]) for info in socket.getaddrinfo(host, None)}
    except (OSError, ValueError):
        return "network"
    if any(address.is_global for address in found):
        return "public"
    return "host" if all(address.is_loopback for address in found) else "network"


def exposure(url: str) -> Finding:
    """What the URL alone says: an address that others reach, without a password or with the well-known one."""
    parts = urlsplit(url)
    host = parts.hostname or "localhost"
    known = parts.username in (None, "guest") and parts.password in (None, "", "guest")
    where = reach(host)
    if not known or where == "host":
        return ok("broker access", "asks for a password" if not known else "is reached from this host only")
    said = f"{host} is asked without a password of its own"
    remedy = "give the broker a password and put it into CELERY_BROKER_URL, as redis://:PASSWORD@HOST:6379/0"
    if where == "public":
        return problem("broker access", f"{said}, on a public address: anyone can send and read messages", remedy)
    return warning("broker access", f"{said}: who reaches that network can send and read messages", remedy)


def _redis_exposure(url: str) -> Finding:
    """What the URL says, and what Redis itself says of where it listens."""
    import redis

    from_url = exposure(url)
    if urlsplit(url).password or from_url.level == "problem":
        return from_url
    try:
        with contextlib.closing(
            redis.Redis.from_url(url, socket_timeout=ANSWER_S, socket_connect_timeout=ANSWER_S)
        ) as client:
            found = {name: str(value) for pattern in ("bind", "protected-mode", "port")
                     for name, value in client.config_get(pattern).items()}  # fmt: skip
    except (redis.RedisError, ValueError):
        # A server that hides its configuration says nothing more than the URL.
        return from_url
    if found.get("protected-mode") == "yes" or found.get("port") == "0":
        return from_url
    bound = found.get("bind", "*").split() or ["*"]
    anywhere = [address for address in bound if address in _ANYWHERE]
    public = anywhere or [address for address in bound if reach(address.removeprefix("-")) == "public"]
    if public:
        return problem(
            "broker access", f"Redis listens on {', '.join(public)} without a password: who reaches this host can "
            "send and read messages",
            "set requirepass (and CELERY_BROKER_URL=redis://:PASSWORD@HOST:6379/0), or bind 127.0.0.1, in redis.conf",
        )  # fmt: skip
    return from_url
