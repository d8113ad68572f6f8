"""The files by which the processes of a data directory agree on its embedded servers."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

from tickover.errors import ConfigurationError


@dataclass(frozen=True, kw_only=True, slots=True)
class Published:
    """What a supervisor has published; immutable.

    pid: the supervisor's. urls: server -> URL, for those that answer. processes: server -> [pid, time of creation],
    also of those that a killed supervisor left. errors: user -> [kind of error, message], for users whose server
    could not be started. notes: what was done to directories of the user's. sockets: the directory of the sockets.
    """

    pid: int = 0
    urls: dict[str, str] = field(default_factory=dict)
    processes: dict[str, tuple[int, float]] = field(default_factory=dict)
    errors: dict[str, tuple[str, str]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    sockets: str = ""


class ServerFiles:
    """The files of one data directory.

    A user is a file in `users`, locked by its process for as long as it uses the servers, and naming the servers it
    wants. The kernel drops the lock of a process that ends, however it ends. `kept` is a user without a process.
    """

    def __init__(self, data_dir: Path) -> None:
        self.root = data_dir.expanduser().absolute() / "servers"
        self.users = self.root / "users"
        self.gate_lock = self.root / "gate.lock"
        self.supervisor_lock = self.root / "supervisor.lock"
        self.published = self.root / "published.json"
        self.log = self.root / "supervisor.log"
        self.kept = self.users / "kept"

    def make(self) -> None:
        """Make the directories. Raises ConfigurationError if that cannot be."""
        try:
            self.users.mkdir(parents=True, exist_ok=True)
            probe = self.root / f".probe-{os.getpid()}"
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise ConfigurationError(
                f"the data directory {self.root.parent} cannot be written ({error.strerror}); "
                "set TICKOVER_DATA_DIR to one that can"
            ) from error

    @contextlib.contextmanager
    def gate(self) -> Iterator[None]:
        """Exclusive use of the list of users: nobody joins while the supervisor decides whether to end."""
        with self.gate_lock.open("a") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield

    def supervised(self) -> bool:
        """Whether a supervisor is alive."""
        return is_locked(self.supervisor_lock)

    def read(self) -> Published:
        """What the supervisor has published; an empty one if nothing."""
        try:
            return Published(**json.loads(self.published.read_text()))
        except (FileNotFoundError, ValueError, TypeError):
            return Published()

    def publish(self, published: Published) -> None:
        """Publish it, all at once. The file is for the owner only."""
        draft = self.published.with_suffix(".new")
        draft.touch(mode=0o600)
        draft.write_text(json.dumps(asdict(published)))
        draft.replace(self.published)

    def live_users(self) -> dict[str, set[str]]:
        """The live users and the servers that each wants; files of dead ones are removed. Call it behind the gate."""
        alive = {}
        for path in sorted(self.users.iterdir()):
            try:
                if path == self.kept or is_locked(path):
                    alive[path.name] = set(path.read_text().split())
                else:
                    path.unlink()
            except FileNotFoundError:
                # It has just left.
                continue
        return alive


def socket_path(sockets: Path, name: str) -> Path:
    """The socket of the server of that name, each in a directory of its own."""
    return sockets / name / {"postgres": ".s.PGSQL.5432", "redis": "redis.sock"}[name]


def is_locked(path: Path) -> bool:
    """Whether a live process holds the file's lock. Asking takes no lock that would look like a holder's."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
    return False
