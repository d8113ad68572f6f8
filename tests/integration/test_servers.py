"""Embedded servers: real ones, shared, ended with their last user, and recovered after any kill."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import psycopg2
import pytest
import redis

from tests.conftest import ROOT, clean_environment
from tickover.errors import ConfigurationError, InfrastructureError
from tickover.ground import servers
from tickover.ground.server_files import ServerFiles
from tickover.ground.settings import Settings

# A user: joins, says where the servers are, and leaves when its standard input closes.
USER = """
import json, sys
from tickover.ground import servers
from tickover.ground.settings import get_settings
with servers.use(get_settings(), broker="--no-broker" not in sys.argv) as endpoints:
    print(json.dumps([endpoints.environment(), servers.processes(get_settings())]), flush=True)
    sys.stdin.read()
"""


def eventually(true: Callable[[], bool], timeout_s: float = 30) -> bool:
    """Whether it becomes true within the timeout."""
    deadline = time.monotonic() + timeout_s
    while not true():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def gone(*pids: int) -> bool:
    """Whether none of the processes runs any more."""
    return not any(psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE for pid in pids)


class User:
    """A process that uses the servers of a data directory."""

    def __init__(self, data_dir: Path, *arguments: str) -> None:
        self.popen = subprocess.Popen(
            [sys.executable, "-c", USER, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd="/",
            env=clean_environment(TICKOVER_DATA_DIR=str(data_dir)), text=True,
        )  # fmt: skip

    def joined(self) -> tuple[dict[str, str], dict[str, int]]:
        """The endpoints and the servers' process ids, once it has joined."""
        assert self.popen.stdout is not None
        environment, processes = json.loads(self.popen.stdout.readline())
        return environment, processes

    def leave(self) -> None:
        """Leave in order."""
        self.popen.communicate()

    def kill(self) -> None:
        """kill -9."""
        self.popen.kill()
        self.popen.communicate()


@pytest.fixture
def data_dir() -> Iterator[Path]:
    """An empty data directory; whatever servers are left in it are stopped."""
    # Not pytest's: that one is closed to the user as which root's PostgreSQL runs.
    made = Path(tempfile.mkdtemp(prefix="tickover-tests-"))
    made.chmod(0o711)
    yield made
    servers.release(settings_for(made), force=True)
    shutil.rmtree(made)


@pytest.fixture
def join(data_dir: Path) -> Iterator[Callable[..., User]]:
    """Makes users of the data directory, or of another; they leave at the test's end."""
    made: list[User] = []

    def make(*arguments: str, directory: Path = data_dir) -> User:
        made.append(User(directory, *arguments))
        return made[-1]

    yield make
    for user in made:
        user.kill()


def settings_for(data_dir: Path, **more: Any) -> Settings:
    """Settings of a data directory, with nothing of the surroundings."""
    return Settings(_env_file=None, data_dir=data_dir, **more)  # type: ignore[call-arg]


def ask(url: str, statement: str) -> Any:
    """The first value that the statement gives."""
    with contextlib.closing(psycopg2.connect(url)) as connection, connection.cursor() as cursor:
        connection.autocommit = True
        cursor.execute(statement)
        row = cursor.fetchone() if cursor.description else None
        return row and row[0]


@pytest.mark.parametrize(
    ("setting", "value"),
    [("fsync", "on"), ("full_page_writes", "on"), ("synchronous_commit", "on"), ("listen_addresses", "")],
)
def test_nothing_that_keeps_data_safe_is_off(servers: servers.Endpoints, setting: str, value: str) -> None:
    """What was committed is on disk: the settings in effect say so, and PostgreSQL listens on no address."""
    assert ask(servers.database_url, f"SHOW {setting}") == value


def test_many_processes_can_connect(servers: servers.Endpoints) -> None:
    """At least 100 sessions at once are allowed."""
    assert int(ask(servers.database_url, "SHOW max_connections")) >= 100


def test_only_their_user_can_reach_them(data_dir: Path) -> None:
    """The servers listen on unix sockets alone, in directories that are closed to other users."""
    with servers.use(settings_for(data_dir)) as endpoints:
        for name, pid in servers.processes(settings_for(data_dir)).items():
            assert psutil.Process(pid).net_connections(kind="inet") == [], name
        assert endpoints.redis_url is not None
        redis_dir = Path(endpoints.redis_url.removeprefix("unix://")).parent
        for directory in (redis_dir, redis_dir.with_name("postgres")):
            assert stat.S_IMODE(directory.stat().st_mode) == 0o700


def test_redis_keeps_nothing_on_disk(data_dir: Path) -> None:
    """The broker has no persistence: a message is a hint, and the truth is in PostgreSQL."""
    with servers.use(settings_for(data_dir)) as endpoints:
        assert endpoints.redis_url is not None
        with contextlib.closing(redis.Redis.from_url(endpoints.redis_url)) as client:
            client.set("a", "b")
            assert client.config_get("save") == {"save": ""}
            assert client.config_get("appendonly") == {"appendonly": "no"}
    assert list(data_dir.rglob("*.rdb")) == []


def test_users_of_a_directory_share_servers(join: Callable[..., User]) -> None:
    """Processes that start at once on one data directory get the same servers."""
    users = [join() for _ in range(4)]
    assert len({json.dumps(user.joined()) for user in users}) == 1


def test_users_of_two_directories_share_nothing(join: Callable[..., User], data_dir: Path) -> None:
    """Processes that start at once on two data directories get servers of their own."""
    other = data_dir / "other"
    one, two = join(), join(directory=other)
    (_, first), (_, second) = one.joined(), two.joined()
    assert set(first.values()).isdisjoint(second.values())
    two.leave()
    assert eventually(lambda: gone(*second.values()))
    assert not gone(*first.values())


def test_servers_end_with_the_last_user(join: Callable[..., User], data_dir: Path) -> None:
    """The first to leave stops nothing; the last one's leaving ends servers and supervisor, and removes sockets."""
    first, last = join(), join()
    _, processes = first.joined()
    last.joined()
    sockets = Path(ServerFiles(data_dir).read().sockets)
    assert sockets.is_dir()
    first.leave()
    assert ServerFiles(data_dir).supervised()
    assert not gone(*processes.values())
    last.leave()
    assert eventually(lambda: gone(*processes.values()))
    assert not sockets.exists()
    assert servers.running(settings_for(data_dir)) is None


def test_the_last_user_leaves_no_process_behind(data_dir: Path) -> None:
    """What ran in the directory is gone when the last user is, so that the directory can be removed."""
    settings = settings_for(data_dir)
    with servers.use(settings):
        with servers.use(settings):
            processes = servers.processes(settings)
        assert not gone(*processes.values())
    assert gone(processes["postgres"], processes["redis"]) and not ServerFiles(data_dir).supervised()
    shutil.rmtree(data_dir / "servers")


def test_data_stays_between_runs(data_dir: Path) -> None:
    """What was written is there when the servers are started the next time."""
    with servers.use(settings_for(data_dir)) as endpoints:
        ask(endpoints.database_url, "CREATE TABLE kept AS SELECT 42 AS value")
    assert eventually(lambda: not ServerFiles(data_dir).supervised())
    with servers.use(settings_for(data_dir)) as endpoints:
        assert ask(endpoints.database_url, "SELECT value FROM kept") == 42


def test_kill_of_the_starter_leaves_the_others_running(join: Callable[..., User]) -> None:
    """kill -9 of the process that started the servers does nothing to another user's."""
    starter = join()
    _, processes = starter.joined()
    other = join()
    environment, _ = other.joined()
    starter.kill()
    assert ask(environment["DATABASE_URL"], "SELECT 1") == 1
    assert not gone(*processes.values())


def test_kill_of_the_last_user_ends_the_servers(join: Callable[..., User]) -> None:
    """kill -9 of the last user leaves no process behind."""
    user = join()
    _, processes = user.joined()
    user.kill()
    assert eventually(lambda: gone(*processes.values()))


def test_kill_of_the_supervisor_ends_the_servers(join: Callable[..., User], data_dir: Path) -> None:
    """kill -9 of the supervisor ends its servers; the next user starts them again, on the same data."""
    user = join()
    environment, processes = user.joined()
    ask(environment["DATABASE_URL"], "CREATE TABLE kept AS SELECT 42 AS value")
    sockets = Path(ServerFiles(data_dir).read().sockets)
    os.kill(processes["supervisor"], signal.SIGKILL)
    assert eventually(lambda: gone(*processes.values()))
    with servers.use(settings_for(data_dir)) as endpoints:
        assert ask(endpoints.database_url, "SELECT value FROM kept") == 42
    assert not sockets.exists()


def test_kill_of_everything_loses_nothing_committed(join: Callable[..., User], data_dir: Path) -> None:
    """kill -9 of user, supervisor and servers at once: the next user finds what was committed."""
    user = join()
    environment, processes = user.joined()
    ask(environment["DATABASE_URL"], "CREATE TABLE kept AS SELECT 42 AS value")
    user.kill()
    for pid in processes.values():
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    # A process that is killed accepts connections until it is gone.
    assert eventually(lambda: gone(*processes.values()))
    with servers.use(settings_for(data_dir)) as endpoints:
        assert ask(endpoints.database_url, "SELECT value FROM kept") == 42


@pytest.mark.parametrize("name", ["postgres", "redis"])
def test_server_that_dies_is_started_again(data_dir: Path, name: str) -> None:
    """kill -9 of a server: it is there again, at the same place, with the data that it keeps."""
    settings = settings_for(data_dir)
    with servers.use(settings) as endpoints:
        assert endpoints.redis_url is not None
        ask(endpoints.database_url, "CREATE TABLE kept AS SELECT 42 AS value")
        killed = servers.processes(settings)[name]
        os.kill(killed, signal.SIGKILL)
        assert eventually(lambda: servers.processes(settings).get(name, killed) != killed)
        assert ask(endpoints.database_url, "SELECT value FROM kept") == 42
        with contextlib.closing(redis.Redis.from_url(endpoints.redis_url)) as client:
            assert client.ping()
        assert servers.running(settings) is not None


def test_orphans_of_a_killed_supervisor_are_ended(data_dir: Path) -> None:
    """A server that outlived its supervisor, as it can where the kernel has no death signal, is ended by the next."""
    with servers.use(settings_for(data_dir)):
        pass
    assert eventually(lambda: not ServerFiles(data_dir).supervised())
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as orphan:
        left = {"redis": (orphan.pid, psutil.Process(orphan.pid).create_time()), "postgres": (os.getpid(), 1.0)}
        files = ServerFiles(data_dir)
        files.publish(type(files.read())(processes=left))
        with servers.use(settings_for(data_dir)):
            assert eventually(lambda: orphan.poll() is not None)
        assert orphan.returncode == -signal.SIGTERM


def test_only_what_is_needed_is_started(join: Callable[..., User], data_dir: Path) -> None:
    """A user without need of a broker starts PostgreSQL alone; the next one, with need, gets a Redis beside it."""
    first = join("--no-broker")
    environment, processes = first.joined()
    assert "CELERY_BROKER_URL" not in environment
    assert processes.keys() == {"supervisor", "postgres"}
    environment, more = join().joined()
    assert environment["CELERY_BROKER_URL"].startswith("redis+socket://")
    assert more["postgres"] == processes["postgres"]


def test_urls_in_the_settings_start_nothing(data_dir: Path) -> None:
    """With both URLs set they are used as they are, and no file is made."""
    settings = settings_for(data_dir, database_url="postgresql://a/b", broker_url="amqp://c")
    with servers.use(settings) as endpoints:
        assert endpoints.environment() == {"DATABASE_URL": "postgresql://a/b", "CELERY_BROKER_URL": "amqp://c"}
        assert not endpoints.embedded
    assert list(data_dir.iterdir()) == []


def test_broker_url_alone_leaves_postgres_embedded(data_dir: Path) -> None:
    """With only the broker set, PostgreSQL is embedded and no Redis is started."""
    settings = settings_for(data_dir, broker_url="amqp://c")
    with servers.use(settings) as endpoints:
        assert endpoints.broker_url == "amqp://c"
        assert endpoints.embedded
        assert servers.processes(settings).keys() == {"supervisor", "postgres"}


def test_long_data_directory_works(join: Callable[..., User], data_dir: Path) -> None:
    """A data directory whose path is longer than a unix socket's may be is no problem."""
    long = data_dir / ("x" * 90) / ("y" * 90)
    user = join(directory=long)
    environment, _ = user.joined()
    assert ask(environment["DATABASE_URL"], "SELECT 1") == 1
    user.leave()
    # Servers that are still ending would write into what the test removes.
    servers.release(settings_for(long), force=True)


def test_interrupted_first_start_is_repaired(data_dir: Path) -> None:
    """What a killed initdb left is no data, and does not stop the next start."""
    half = data_dir / "servers" / "postgres.new"
    half.mkdir(parents=True)
    (half / "PG_VERSION").write_text("18\n")
    with servers.use(settings_for(data_dir), broker=False) as endpoints:
        assert ask(endpoints.database_url, "SELECT 1") == 1


def test_data_of_another_version_is_refused(data_dir: Path) -> None:
    """Data of another PostgreSQL is a configuration error that names both versions, and is not touched."""
    marker = data_dir / "servers" / "postgres" / "PG_VERSION"
    marker.parent.mkdir(parents=True)
    marker.write_text("13\n")
    with pytest.raises(ConfigurationError, match=r"holds data of PostgreSQL 13, and the embedded one is \d+; move"):
        with servers.use(settings_for(data_dir)):
            pass
    assert [path.name for path in marker.parent.iterdir()] == ["PG_VERSION"]
    assert eventually(lambda: not ServerFiles(data_dir).supervised())


def test_foreign_files_in_place_of_data_are_refused(data_dir: Path) -> None:
    """A directory with something else in the data's place is refused, and not emptied."""
    diary = data_dir / "servers" / "postgres" / "diary.txt"
    diary.parent.mkdir(parents=True)
    diary.write_text("mine")
    with pytest.raises(ConfigurationError, match="holds no PostgreSQL data"):
        with servers.use(settings_for(data_dir)):
            pass
    assert diary.read_text() == "mine"


def test_failure_of_one_user_does_not_stop_another(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no Redis can be started, who needs one gets the error, and who needs PostgreSQL alone goes on."""
    with servers.use(settings_for(data_dir), broker=False) as endpoints:
        blocked = Path(ServerFiles(data_dir).read().sockets) / "redis"
        blocked.write_text("in the way")
        with pytest.raises(InfrastructureError, match="redis did not start"):
            with servers.use(settings_for(data_dir)):
                pass
        assert ask(endpoints.database_url, "SELECT 1") == 1
        blocked.unlink()
        with servers.use(settings_for(data_dir)) as both:
            assert both.redis_url is not None


def test_directory_that_cannot_be_written_is_refused() -> None:
    """A data directory below a file is a configuration error that names it and the setting."""
    with pytest.raises(ConfigurationError, match=r"/dev/null/x cannot be written .* TICKOVER_DATA_DIR"):
        with servers.use(settings_for(Path("/dev/null/x"))):
            pass


def test_kept_servers_stay_until_they_are_released(data_dir: Path) -> None:
    """`keep` has servers stay without a user; `release` ends them, but not under a user, unless it is forced."""
    settings = settings_for(data_dir)
    servers.keep(settings)
    files = ServerFiles(data_dir)
    with files.gate():
        assert files.live_users() == {"kept": {"postgres", "redis"}}
    assert servers.users(settings) == []
    with servers.use(settings):
        assert servers.release(settings) == [os.getpid()]
        assert servers.running(settings) is not None
        assert servers.release(settings, force=True) == []
        assert servers.running(settings) is None


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("setpriv") is None, reason="only root can become another user")
def test_other_users_than_root_run_servers_too(data_dir: Path) -> None:
    """A user other than root runs the servers as itself. (This suite may run as root, as whom PostgreSQL refuses.)"""
    os.chown(data_dir, 65534, 65534)
    # Reading everywhere is granted, for the interpreter may stand in root's home; writing is not.
    become = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=+dac_read_search",
              "--ambient-caps=+dac_read_search"]  # fmt: skip
    if subprocess.run([*become, "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("this machine grants no capability to other users")
    environment = clean_environment(TICKOVER_DATA_DIR=str(data_dir), HOME=str(data_dir))
    command = [*become, sys.executable, str(ROOT / "cli.py")]
    started = subprocess.run(
        [*command, "servers", "start"], env=environment, capture_output=True, text=True, check=False
    )
    assert started.returncode == 0, started.stderr
    owners = {psutil.Process(pid).uids().real for pid in servers.processes(settings_for(data_dir)).values()}
    assert owners == {65534}
    subprocess.run([*command, "servers", "stop"], env=environment, check=True, capture_output=True)
