"""`runs` and `runs prune` as commands."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable

import pytest
from sqlalchemy import text

from shadow.store import Store
from tests.conftest import RunCommand
from tests.integration.report_samples import TickSample, make_run
from tickover.ground.database import engine

Runs = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def command(database: str, tickover: RunCommand) -> Runs:
    """`tickover` on a database with a run that ended 60 days ago, and one of now."""
    store = Store(engine(database))
    for name in ("old", "young"):
        make_run(store, name, [TickSample()] * 30, time_scale=0.01)
    with store.engine.begin() as connection:
        for statement in (
            "UPDATE shadow_runs SET started_at = started_at - interval '60 d', finished_at = now() - interval '60 d' "
            "WHERE run = 'old'",
            "UPDATE shadow_ticks SET claimed_at = claimed_at - interval '60 d' WHERE run = 'old'",
            "UPDATE shadow_comparisons SET created_at = now() - interval '60 d' WHERE run = 'old'",
        ):
            connection.execute(text(statement))

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return tickover(*arguments, DATABASE_URL=database)

    return run


def _names(command: Runs) -> list[str]:
    return [row["run"] for row in json.loads(command("runs", "--json").stdout)]


def _changed(database: str, run: str, *changes: str) -> None:
    """Change a run's stored plan, as another version of Tickover or a hand in the database would."""
    with engine(database).begin() as connection:
        for change in changes:
            connection.execute(
                text(f"UPDATE shadow_runs SET plan = (plan::jsonb {change})::text WHERE run = :run"), {"run": run}
            )


def test_a_run_stands_where_its_report_says(command: Runs, database: str) -> None:
    """A run is running while a runner holds it, and abandoned when the runner is gone, whatever the row still says;
    one beside a loop that stands still is paused. Each that was stopped has the command that goes on with it."""
    store = Store(engine(database))
    stored = {"goes": "running", "gone": "running", "cut": "interrupted", "loop": "running", "stopped": "interrupted"}
    for name, status in stored.items():
        make_run(store, name, [TickSample()], status=status, time_scale=0.01)
    for name in ("loop", "stopped"):
        _changed(database, name, """|| '{"ticks": null, "loop": "main"}'""")
    with store.hold("goes", "test"):
        rows = {row["run"]: row for row in json.loads(command("runs", "--json").stdout)}
        lines = {line.split()[0]: line for line in command("runs").stdout.splitlines()}
        told = {name: json.loads(command("report", name, "--json").stdout)["run"]["status"] for name in stored}
    stands = {"goes": "running", "gone": "abandoned", "cut": "interrupted", "loop": "paused", "stopped": "paused"}
    assert told == stands
    assert {name: rows[name]["status"] for name in stands} == stands
    assert {name: lines[name].split()[1] for name in stands} == stands
    assert rows["old"]["status"] == "done" and rows["old"]["goes_on_with"] is rows["goes"]["goes_on_with"] is None
    assert rows["gone"]["goes_on_with"] == "tickover shadow --resume gone"
    assert lines["cut"].endswith("; `tickover shadow --resume cut` goes on")
    assert rows["loop"]["goes_on_with"] == "tickover serve --shadow --run main"


def test_a_run_that_cannot_be_read_does_not_hide_the_others(command: Runs, database: str) -> None:
    """Runs with a plan of another version, one that no run can have, and one that is no JSON are listed as unreadable
    with the reason, among the others as usual; whoever asks for one of them is told the same, by name."""
    why = {"older": "'mode'", "newer": "moons", "empty": "at least one tick, not 0", "torn": "JSONDecodeError"}
    for name in why:
        make_run(Store(engine(database)), name, [TickSample()], time_scale=0.01)
    _changed(database, "older", "- 'mode'")
    _changed(database, "newer", """|| '{"moons": 2}'""")
    _changed(database, "empty", """|| '{"ticks": 0}'""")
    with engine(database).begin() as connection:
        connection.execute(text("UPDATE shadow_runs SET plan = left(plan, 20) WHERE run = 'torn'"))
    rows = {row["run"]: row for row in json.loads(command("runs", "--json").stdout)}
    assert list(rows) == ["torn", "empty", "newer", "older", "young", "old"]
    listed = command("runs")
    lines = {line.split()[0]: line for line in listed.stdout.splitlines()}
    assert (listed.returncode, lines.keys()) == (0, rows.keys())
    for name, said in why.items():
        row, refused = rows[name], command("report", name)
        assert (row["status"], row["workload"], row["counts"]) == ("unreadable", None, {"match": 1})
        assert said in row["why"] and row["why"] in lines[name] and lines[name].split()[1] == "unreadable"
        assert (refused.returncode, refused.stdout) == (2, "")
        assert f"run {name} was stored by another version" in refused.stderr and row["why"] in refused.stderr
    assert (rows["young"]["status"], rows["young"]["counts"], rows["young"]["why"]) == ("done", {"match": 30}, None)


def test_nothing_is_removed_without_yes_or_an_answer(command: Runs) -> None:
    """Where there is no terminal to ask at, the list is shown, --yes is named, and both runs stay; so do they with
    --json, which says what would go."""
    asked = command("runs", "prune", "--keep", "30d")
    assert asked.returncode == 2 and asked.stdout == ""
    assert "old  last active" in asked.stderr and "30 ticks" in asked.stderr and "add --yes" in asked.stderr
    document = json.loads(command("runs", "prune", "--keep", "30d", "--json").stdout)
    assert ([run["run"] for run in document["going"]], document["removed"]) == (["old"], [])
    assert _names(command) == ["young", "old"]


def test_yes_removes_and_the_verdict_of_it_says_so(command: Runs) -> None:
    """With --yes the old run is gone and the young one lists and reports as before; verifying the removed one's
    verdict fails with what happened; a second time nothing is left to do."""
    assert command("report", "old").returncode == 4
    done = command("runs", "prune", "--keep", "30d", "--yes")
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "1 run removed")
    assert _names(command) == ["young"]
    assert command("report", "young").returncode == 4
    verified = command("report", "old", "--verify")
    assert verified.returncode == 2 and verified.stdout == ""
    assert "cannot be verified any more: the run was removed" in verified.stderr
    again = command("runs", "prune", "--keep", "30d", "--yes")
    assert again.returncode == 0 and "no run is to be removed" in again.stderr


def test_the_latest_goes_only_if_said(command: Runs) -> None:
    """With nothing to keep the latest run stays and says by which option it goes, and with that it goes."""
    kept = command("runs", "prune", "--keep", "0s", "--yes")
    assert "young stays: it is the latest; --latest takes it too" in kept.stderr
    assert _names(command) == ["young"]
    assert command("runs", "prune", "--keep", "0s", "--yes", "--latest").returncode == 0
    assert _names(command) == []


def test_wrong_input_is_named(command: Runs) -> None:
    """Exit code 2, nothing on standard output, nothing removed."""
    for arguments, said in (
        (["prune"], "--keep"),
        (["prune", "--keep", "soon"], "'soon' is no duration"),
        (["prune", "--keep", "99999999d"], "further than there are dates"),
        (["--json", "prune", "--keep", "30d"], "belongs behind prune"),
        (["prunes"], "prunes"),
    ):
        done = command("runs", *arguments)
        assert done.returncode == 2 and said in done.stderr and done.stdout == "", done.stderr
    assert _names(command) == ["young", "old"]
