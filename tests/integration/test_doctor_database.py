"""The doctor on real databases, each with a setting that hurts."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psycopg2
import pytest

from async_tick.doctor.database import connections_of_worker, database_findings
from async_tick.doctor.finding import Finding, Level
from tests.integration.engine_support import until
from tests.integration.transaction_pooler import transaction_pooler
from tickover.ground import postgres
from tickover.ground.settings import get_settings


def look(url: str) -> dict[str, Finding]:
    """What the doctor sees in a database, by name."""
    return {finding.name: finding for finding in database_findings(get_settings(), url)}


def execute(url: str, *statements: str) -> None:
    with closing(psycopg2.connect(url)) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)


def database_of(url: str) -> str:
    """The name of the database in a URL."""
    return psycopg2.extensions.parse_dsn(url)["dbname"]


@pytest.fixture(scope="module")
def careless_server() -> Iterator[str]:
    """A PostgreSQL of its own that trades durability for speed and has room for few connections; its URL."""
    home = Path(tempfile.mkdtemp(prefix="tickover-careless-"))
    home.chmod(0o711)
    careless = {"fsync": "off", "full_page_writes": "off", "max_connections": "12", "shared_buffers": "16MB"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(postgres, "OPTIONS", postgres.OPTIONS | careless)
        server = postgres.PostgresServer(home / "postgres", home / "sockets")
        child = server.start()
        yield server.url()
        child.stop(first=server.stop_signal)
    shutil.rmtree(home)


def test_a_sound_database_gives_no_alarm(database: str) -> None:
    """On the migrated database of a well-kept server everything that was looked at is fine."""
    found = look(database)
    assert [finding.name for finding in found.values() if finding.level is not Level.OK] == []
    assert set(found) == {
        "database", "database version", "durability", "clock", "connections", "pooler", "migrations",
    }  # fmt: skip


def test_a_server_that_does_not_sync_is_a_problem(careless_server: str) -> None:
    """A server started with fsync and full_page_writes off: both are named, each with its setting."""
    found = look(careless_server)["durability"]
    assert found.level is Level.PROBLEM
    assert "fsync and full_page_writes off" in found.said
    assert "set fsync = on in postgresql.conf" in found.remedy


def test_a_database_that_commits_asynchronously_is_a_problem(database: str) -> None:
    """ALTER DATABASE ... SET synchronous_commit = off is seen, for an adopted tick could be lost."""
    execute(database, f"ALTER DATABASE {database_of(database)} SET synchronous_commit = off")
    found = look(database)["durability"]
    assert found.level is Level.PROBLEM
    assert "synchronous_commit" in found.said and "ALTER DATABASE" in found.remedy


def test_few_connections_are_counted_against_a_worker(careless_server: str) -> None:
    """A server with room for 12 has too little for one more worker of four processes, and says what that needs."""
    found = look(careless_server)["connections"]
    assert found.level is Level.WARNING
    assert f"one more worker needs {connections_of_worker('prefork', 4)}" in found.said
    assert "max_connections" in found.remedy and "TICKOVER_CONCURRENCY" in found.remedy


def test_a_role_without_room_is_a_problem(database: str) -> None:
    """A role with CONNECTION LIMIT 3: not even a loop finds room, whatever the server has left."""
    execute(
        database, "DROP ROLE IF EXISTS doctor_cramped", "CREATE ROLE doctor_cramped LOGIN CONNECTION LIMIT 3",
        "GRANT SELECT ON ALL TABLES IN SCHEMA public TO doctor_cramped",
    )  # fmt: skip
    try:
        found = look(database.replace("postgres@", "doctor_cramped@"))["connections"]
    finally:
        execute(database, "DROP OWNED BY doctor_cramped", "DROP ROLE doctor_cramped")
    assert found.level is Level.PROBLEM
    assert "2 connections left under the role's CONNECTION LIMIT" in found.said


@pytest.mark.parametrize(("seconds", "level"), [(5, Level.WARNING), (-600, Level.PROBLEM)])
def test_clocks_that_differ_are_seen(database: str, seconds: int, level: Level) -> None:
    """A database whose clock_timestamp() is 5 s ahead is a warning, one ten minutes behind a problem."""
    execute(
        database, "CREATE SCHEMA skewed",
        "CREATE FUNCTION skewed.clock_timestamp() RETURNS timestamptz LANGUAGE sql VOLATILE AS "
        f"$$ SELECT pg_catalog.clock_timestamp() + interval '{seconds} s' $$",
        f"ALTER DATABASE {database_of(database)} SET search_path = skewed, pg_catalog, public",
    )  # fmt: skip
    found = look(database)["clock"]
    assert found.level is level
    assert ("ahead of" if seconds > 0 else "behind") in found.said


def test_an_old_server_is_a_problem(database: str) -> None:
    """A server that says it is version 12.7 is refused, with the version that is needed."""
    execute(
        database, "CREATE SCHEMA old",
        "CREATE FUNCTION old.current_setting(text) RETURNS text LANGUAGE sql AS $$ SELECT CASE $1 WHEN "
        "'server_version_num' THEN '120007' ELSE pg_catalog.current_setting($1) END $$",
        f"ALTER DATABASE {database_of(database)} SET search_path = old, pg_catalog, public",
    )  # fmt: skip
    found = look(database)["database version"]
    assert found.level is Level.PROBLEM
    assert found.said == "PostgreSQL 12.7 is older than 14"


def test_pending_migrations_are_a_problem(empty_database: str) -> None:
    """A database without the schema names the command that makes it."""
    found = look(empty_database)["migrations"]
    assert (found.level, found.remedy) == (Level.PROBLEM, "run `tickover db upgrade`")


def test_a_schema_of_a_newer_version_is_a_problem(database: str) -> None:
    """A revision that this code does not know asks for the newer code, not for an upgrade."""
    execute(database, "UPDATE alembic_version SET version_num = '9999_future'")
    found = look(database)["migrations"]
    assert found.level is Level.PROBLEM
    assert "use the newer Tickover" in found.remedy


def test_a_database_that_is_down_is_the_one_finding() -> None:
    """Nothing listens: one finding, with the reason and without the password."""
    url = "postgresql://someone:s3cret@127.0.0.1:1/nothing"
    (found,) = database_findings(get_settings(), url)
    assert (found.name, found.level) == ("database", Level.PROBLEM)
    assert "Connection refused" in found.said
    assert "s3cret" not in f"{found}"


def test_a_pooler_by_transaction_is_found_out(database: str) -> None:
    """Behind a pooler that gives out connections by transaction the doctor says that session locks are lost."""
    with transaction_pooler(database) as url:
        found = look(url)["pooler"]
    assert found.level is Level.PROBLEM
    assert "session locks" in found.said and "pool_mode = session" in found.remedy


@pytest.mark.skipif(shutil.which("pgbouncer") is None, reason="PgBouncer is not installed")
@pytest.mark.parametrize(("mode", "level"), [("transaction", Level.PROBLEM), ("session", Level.OK)])
def test_pgbouncer_is_told_by_its_mode(database: str, mode: str, level: Level) -> None:
    """A real PgBouncer is a problem with pool_mode = transaction, and none with pool_mode = session."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    dsn = psycopg2.extensions.parse_dsn(database)
    home = Path(tempfile.mkdtemp(prefix="tickover-pgbouncer-"))
    home.chmod(0o755)
    (home / "users.txt").write_text('"postgres" ""\n')
    settings = {
        "listen_addr": "127.0.0.1", "listen_port": port, "unix_socket_dir": "", "auth_type": "trust",
        "auth_file": home / "users.txt", "pool_mode": mode, "ignore_startup_parameters": "options",
    }  # fmt: skip
    lines = ["[databases]", f"{dsn['dbname']} = host={dsn['host']} port={dsn['port']}", "[pgbouncer]"]
    (home / "pgbouncer.ini").write_text("\n".join([*lines, *(f"{key} = {value}" for key, value in settings.items())]))
    # It refuses to be root, and needs to pass into the directory of the server's socket.
    user = {"user": Path(dsn["host"]).stat().st_uid} if os.geteuid() == 0 else {}
    with (home / "log").open("wb") as log:
        process = subprocess.Popen(["pgbouncer", str(home / "pgbouncer.ini")], stdout=log, stderr=log, **user)
    try:
        url = f"postgresql://postgres@127.0.0.1:{port}/{dsn['dbname']}"
        found = until(lambda: len(told := look(url)) > 1 and told)["pooler"]
    finally:
        process.terminate()
        process.wait(10)
        shutil.rmtree(home)
    assert found.level is level
