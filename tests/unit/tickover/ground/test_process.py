"""Child processes: ended whole, and never left behind."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from tickover.errors import InfrastructureError
from tickover.ground.process import ChildProcess

WAITS = [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(60)"]
# Ignores SIGTERM, and has a child of its own that does too.
STUBBORN = [
    sys.executable, "-c",
    "import os, signal, time\n"
    "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    "child = os.fork()\n"
    "print('child', child, flush=True) if child else None\n"
    "time.sleep(60)\n",
]  # fmt: skip


def eventually(true: Callable[[], bool], timeout_s: float = 10) -> bool:
    """Whether it becomes true within the timeout."""
    deadline = time.monotonic() + timeout_s
    while not true():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def running(pid: int) -> bool:
    """Whether the process is there and no zombie."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_output_goes_to_the_log_and_readiness_is_waited_for(tmp_path: Path) -> None:
    """`wait_ready` returns when the predicate is true, which may read the child's log."""
    with ChildProcess(WAITS, log_path=tmp_path / "deep" / "log") as child:
        child.wait_ready(lambda: child.log_tail() == "up", 10)
        assert child.alive()
        assert os.getpgid(child.pid) == child.pid
    assert not child.alive()


def test_child_that_ends_early_shows_its_log(tmp_path: Path) -> None:
    """A child that ends before it is ready is an error with its exit code and the end of its log."""
    child = ChildProcess([sys.executable, "-c", "raise SystemExit('no luck')"], log_path=tmp_path / "log")
    with pytest.raises(InfrastructureError, match=r"ended with 1: no luck"):
        child.wait_ready(lambda: False, 10)
    assert child.stop() == 1


def test_what_another_wrote_to_the_log_before_is_not_shown(tmp_path: Path) -> None:
    """The log of a server goes on over its starts: an error tells of the last one alone."""
    (tmp_path / "log").write_text("what went wrong long ago\n")
    with ChildProcess([sys.executable, "-c", "raise SystemExit('why')"], log_path=tmp_path / "log") as child:
        with pytest.raises(InfrastructureError, match=r"ended with 1: why$"):
            child.wait_ready(lambda: False, 10)
    with ChildProcess([sys.executable, "-c", "pass"], log_path=tmp_path / "log") as child:
        child.wait()
        assert child.log_tail() == "it wrote nothing"


def test_child_that_is_never_ready_is_an_error(tmp_path: Path) -> None:
    """A child that is not ready within the timeout is an error that says so."""
    with ChildProcess(WAITS, log_path=tmp_path / "log") as child:
        with pytest.raises(InfrastructureError, match=r"was not ready within 0\.1 s"):
            child.wait_ready(lambda: False, 0.1)


def test_missing_program_is_named() -> None:
    """A program that does not exist is an error at once."""
    with pytest.raises(InfrastructureError, match="no-such-program"):
        ChildProcess(["no-such-program"])


def test_log_that_cannot_be_written_is_named() -> None:
    """A log below a file is an error that names it, and starts nothing."""
    with pytest.raises(InfrastructureError, match=r"the log /dev/null/log cannot be written"):
        ChildProcess(WAITS, log_path=Path("/dev/null/log"))


def test_stop_returns_the_exit_code(tmp_path: Path) -> None:
    """`stop` sends SIGTERM and returns what the child ended with; a second call returns the same."""
    child = ChildProcess(WAITS)
    assert child.stop() == -signal.SIGTERM
    assert child.stop() == -signal.SIGTERM


def test_stop_kills_the_group_of_a_child_that_does_not_end(tmp_path: Path) -> None:
    """A child that ignores SIGTERM is killed after the timeout, with its own children."""
    child = ChildProcess(STUBBORN, log_path=tmp_path / "log")
    child.wait_ready(lambda: child.log_tail().startswith("child"), 10)
    grandchild = int(child.log_tail().split()[1])
    assert child.stop(timeout_s=0.2) == -signal.SIGKILL
    assert eventually(lambda: not running(grandchild))


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a child with its parent")
def test_child_ends_when_its_parent_is_killed(tmp_path: Path) -> None:
    """kill -9 of the parent ends the child."""
    program = (
        "import sys, time\nfrom tickover.ground.process import ChildProcess\n"
        f"print(ChildProcess({WAITS!r}).pid, flush=True)\ntime.sleep(60)"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, env=environment) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        assert running(child)
        parent.kill()
    assert eventually(lambda: not running(child))


def test_child_outlives_the_thread_that_started_it() -> None:
    """A child that a short-lived thread started stays when the thread ends: its parent is the process."""
    started: list[ChildProcess] = []
    thread = threading.Thread(target=lambda: started.append(ChildProcess(WAITS)))
    thread.start()
    thread.join()
    time.sleep(0.2)  # nothing can be polled for: what is proved is that nothing happens
    assert started[0].alive()
    started[0].stop()


def test_forked_process_can_start_children(tmp_path: Path) -> None:
    """A process forked from one that has started children can start its own."""
    ChildProcess([sys.executable, "-c", ""]).stop()
    done = tmp_path / "done"
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            child = ChildProcess([sys.executable, "-c", "raise SystemExit(7)"])
            assert eventually(lambda: not child.alive())
            done.write_text(json.dumps(child.stop()))
            code = 0
        finally:
            os._exit(code)
    assert eventually(lambda: os.waitpid(pid, os.WNOHANG)[0] == pid)
    assert json.loads(done.read_text()) == 7


def test_environment_and_directory_are_the_given_ones(tmp_path: Path) -> None:
    """The child has this process's environment with what is added, and runs in the directory given."""
    program = "import os; print(os.environ['ADDED'], 'PATH' in os.environ, os.getcwd())"
    child = ChildProcess(
        [sys.executable, "-c", program], env={"ADDED": "yes"}, cwd=tmp_path, log_path=tmp_path / "log"
    )
    assert eventually(lambda: not child.alive())
    assert child.stop() == 0
    assert child.log_tail() == f"yes True {tmp_path}"
