"""A prefork child that was forked while a sweep sent a hint hung before it had begun, for a lock was never released:
its worker had one process less, and never ended when told to."""

from __future__ import annotations

import subprocess
import sys

from tests.conftest import ROOT, clean_environment

# A sweep names one step, and the broker takes its time with the hint for it; meanwhile the process forks.
_SCRIPT = """
import os, sys, threading
from types import SimpleNamespace
from async_tick import sql
from async_tick.sweeper import Sweeper

begun, may_end = threading.Event(), threading.Event()
inside = []

class SlowBroker:
    def send_task(self, *arguments, **more):
        inside.append(1)
        begun.set()
        may_end.wait(30)
        inside.clear()

class Rows:
    def rows(self, statement, values=()):
        return [("e", "w", "s", "q", False)] if statement == sql.SWEEP else []

sweeper = Sweeper(SlowBroker(), SimpleNamespace(sweep_s=0.5))
sweeper._connection = Rows()
sweep = threading.Thread(target=sweeper.sweep)
sweep.start()
begun.wait(30)
threading.Timer(0.3, may_end.set).start()
pid = os.fork()
if pid == 0:
    if inside:
        os._exit(1)
    # The child may send hints of its own.
    os._exit(0 if sweeper.sweep() == 1 else 2)
_, status = os.waitpid(pid, 0)
sweep.join()
# And the parent goes on sending.
sys.exit(os.waitstatus_to_exitcode(status) or (0 if sweeper.sweep() == 1 else 3))
"""


def test_a_fork_waits_for_the_hint_that_is_being_sent() -> None:
    """The child begins with nothing half sent, and both can send."""
    done = subprocess.run([sys.executable, "-c", _SCRIPT], cwd=ROOT, env=clean_environment(), timeout=60, check=False)
    assert done.returncode == 0
