"""The guide to a first shadow run, followed to the letter."""

from __future__ import annotations

import json
import re
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.conftest import ROOT, clean_environment


@pytest.fixture
def weather() -> Iterator[str]:
    """A service on loopback whose answers differ from call to call; its URL."""
    calls = iter(range(1_000_000))

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps({"degrees": next(calls) * 7 % 13 / 2}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.timeout(400)
def test_the_example_matches_and_survives_the_way_over_and_back(weather: str) -> None:
    """The guide's old function and its port, typed off: every tick matches, and after a switchover the new system
    writes the same notes and, by the rollback, the same rows."""
    old, port = re.findall(r"```python\n(.*?)```", (ROOT / "docs/first-shadow-run.md").read_text(), re.DOTALL)
    project = Path(tempfile.mkdtemp(prefix="tickover-first-run-"))
    project.chmod(0o755)
    (project / "diary.py").write_text(old)
    (project / "diary_port.py").write_text(port)
    environment = clean_environment(WEATHER_URL=weather, TICKOVER_WORKLOAD="diary_port:job")
    del environment["PYTHONPATH"]

    def tickover(*arguments: str) -> str:
        done = subprocess.run(
            [str(Path(sys.executable).parent / "tickover"), *arguments], cwd=project, env=environment,
            capture_output=True, text=True, check=False, timeout=120,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    try:
        tickover("servers", "start")
        assert "5 match" in tickover("shadow", "--ticks", "5", "--every", "0s")
        tickover("serve", "--ticks", "2", "--every", "0")
        tickover("switchover", "--yes", "--force", "--reason", "trying", "--no-backup")
        assert "tick 2: async done" in tickover("serve", "--ticks", "2", "--every", "0")
        tickover("rollback", "--reason", "tried")
        assert "tick 4: legacy done" in tickover("serve", "--ticks", "1", "--every", "0")
        home = project / ".tickover" / "home" / "main"
        assert [(home / f"note-{tick}.txt").is_file() for tick in range(5)] == [True] * 5
        with closing(sqlite3.connect(home / "diary.db")) as db:
            assert db.execute("SELECT count(*), count(at) FROM readings").fetchone() == (5, 5)
    finally:
        subprocess.run(
            [str(Path(sys.executable).parent / "tickover"), "servers", "stop", "--force"], cwd=project,
            env=environment, capture_output=True, check=False,
        )  # fmt: skip
        shutil.rmtree(project)
