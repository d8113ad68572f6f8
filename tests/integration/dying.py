"""A process that rolls back and kills itself with -9 before a chosen statement: `python -m tests.integration.dying`.

Arguments: home, run, and the number of the statement (from 1; 0 kills nobody) or `write`, to die while the old
system's store is being written. It prints how many statements there were.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

import psycopg2.extensions


def main() -> None:
    """Roll back, or die of it."""
    home, run, fatal = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
    count = 0

    class Cursor(psycopg2.extensions.cursor):
        """Counts statements, and dies before the chosen one."""

        def execute(self, *arguments: Any) -> None:
            nonlocal count
            count += 1
            if str(count) == fatal:
                os.kill(os.getpid(), signal.SIGKILL)
            super().execute(*arguments)

    connect = psycopg2.connect
    psycopg2.connect = lambda *given, **named: connect(*given, **named, cursor_factory=Cursor)
    import dataclasses

    from async_tick.rollback import roll_back
    from async_tick.route import read_route
    from tests.integration.route_job import job, write_state

    def writes(home: Path, state: Any) -> None:
        if fatal == "write":
            (home / "list.json").write_text('{"entries": [["half')
            os.kill(os.getpid(), signal.SIGKILL)
        write_state(home, state)

    workflow = dataclasses.replace(job, write_state=writes)
    roll_back(read_route(), workflow, run, home, author="test", reason="test")
    print(count)


if __name__ == "__main__":
    main()
