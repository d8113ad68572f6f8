"""What the doctor concludes from a value alone: addresses, pools, levels, secrets."""

from __future__ import annotations

import pytest

from async_tick.doctor.broker import exposure
from async_tick.doctor.database import connections_of_worker
from async_tick.doctor.finding import Finding, Level, could_look, ok, problem, warning, worst
from async_tick.doctor.here import pool_finding


@pytest.mark.parametrize(
    ("url", "level"),
    [
        ("redis://localhost:6379/0", Level.OK),
        ("redis://127.0.0.1:6379/0", Level.OK),
        ("redis+socket:///run/redis.sock", Level.OK),
        ("redis://:secret@8.8.8.8:6379/0", Level.OK),
        ("redis://8.8.8.8:6379/0", Level.PROBLEM),
        ("redis://[2001:4860:4860::8888]:6379/0", Level.PROBLEM),
        ("redis://10.1.2.3:6379/0", Level.WARNING),
        ("amqp://guest:guest@8.8.8.8:5672//", Level.PROBLEM),
        ("amqp://guest:guest@10.1.2.3:5672//", Level.WARNING),
        ("amqp://tickover:secret@10.1.2.3:5672//", Level.OK),
    ],
)
def test_an_address_is_judged_by_who_reaches_it(url: str, level: Level) -> None:
    """Without a password of its own a public address is a problem, another network's a warning, the host's none."""
    assert exposure(url).level is level


@pytest.mark.parametrize(
    ("pool", "level"),
    [
        ("prefork", Level.OK),
        ("celery.concurrency.prefork:TaskPool", Level.OK),
        ("threads", Level.WARNING),
        ("celery.concurrency.thread:TaskPool", Level.WARNING),
        ("celery.concurrency.solo:TaskPool", Level.PROBLEM),
        ("celery.concurrency.gevent:TaskPool", Level.PROBLEM),
        ("celery.concurrency.eventlet:TaskPool", Level.PROBLEM),
    ],
)
def test_a_pool_is_judged_by_what_it_does_at_a_limit(pool: str, level: Level) -> None:
    """Only prefork ends what ignores its limit; what cannot interrupt a step says how to change that."""
    found = pool_finding("settings", pool)
    assert found.level is level
    assert ("prefork" in found.remedy) is (level is not Level.OK)


def test_a_finding_never_shows_a_password() -> None:
    """Whatever text a finding quotes, passwords in it are hidden."""
    found = Finding(
        name="x", level=Level.OK, said="at redis://:s3cret@h/0", remedy="password=s3cret or postgresql://u:s3cret@h/d"
    )
    assert "s3cret" not in f"{found} {found.to_json()}"


def test_the_worst_level_counts() -> None:
    """One problem outweighs any number of others; nothing at all is fine."""
    assert worst([]) is Level.OK
    assert worst([ok("a", ""), warning("b", "", "")]) is Level.WARNING
    assert worst([problem("c", "", ""), ok("a", ""), warning("b", "", "")]) is Level.PROBLEM


def test_one_server_that_answers_is_enough_to_have_looked() -> None:
    """Settings alone are not a look at anything; a database or a broker that answers is."""
    assert not could_look([problem("database", "", ""), problem("broker", "", ""), ok("disk", "")])
    assert could_look([problem("database", "", ""), ok("broker", "")])


def test_connections_of_a_worker_grow_with_its_kind() -> None:
    """Processes each hold a session lock of their own, threads share one."""
    assert connections_of_worker("prefork", 4) == 13
    assert connections_of_worker("threads", 4) == 10
