"""`report` and `plan` as commands: forms, exit codes, and what they refuse."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import jsonschema
import pytest

from shadow.compare import Kind
from shadow.store import Store
from tests.conftest import RunCommand
from tests.integration.report_samples import TickSample, make_run
from tickover.ground.database import engine

SCHEMA = json.loads((Path(__file__).parents[2] / "reports/schema/report.schema.json").read_text(encoding="utf-8"))
Report = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def report(database: str, tickover: RunCommand) -> Report:
    """`tickover report` on a database with three runs: ready, bad and short, of which short is the latest."""
    store = Store(engine(database))
    bad = TickSample(kind=Kind.MISMATCH, differs="act")
    for name, ticks in (("ready", [TickSample()] * 120), ("bad", [bad] * 60), ("short", [TickSample()] * 30)):
        make_run(store, name, ticks, time_scale=0.01)

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return tickover("report", *arguments, DATABASE_URL=database)

    return run


def test_the_exit_code_is_the_verdict(report: Report) -> None:
    """0 for READY, 1 for NOT_READY, 4 for KEEP_RUNNING; without a name the latest run is taken."""
    for arguments, code, word in ((["ready"], 0, "READY"), (["bad"], 1, "NOT READY"), ([], 4, "KEEP RUNNING")):
        done = report(*arguments)
        assert (done.returncode, done.stderr) == (code, "")
        assert f"  {word} (scaled to 0.01 of real time), policy scaled" in done.stdout
        assert "\x1b" not in done.stdout and max(map(len, done.stdout.splitlines())) <= 100


def test_fail_under_turns_the_verdict_into_pass_or_fail(report: Report) -> None:
    """A job in CI passes from the verdict that it asks for upwards, and fails with the verdict's own code."""
    codes = {
        (run, least): report(run, "--fail-under", least).returncode
        for run in ("ready", "short", "bad")
        for least in ("READY", "KEEP_RUNNING")
    }
    assert codes == {
        ("ready", "READY"): 0, ("ready", "KEEP_RUNNING"): 0, ("short", "READY"): 4, ("short", "KEEP_RUNNING"): 0,
        ("bad", "READY"): 1, ("bad", "KEEP_RUNNING"): 1,
    }  # fmt: skip


def test_every_form_is_written(report: Report, tmp_path: Path) -> None:
    """JSON by the schema on standard output, a page and Markdown in files, all of one verdict."""
    done = report("bad", "--json", "--html", "r.html", "--markdown", "r.md")
    assert done.returncode == 1, done.stderr
    document = json.loads(done.stdout)
    jsonschema.Draft202012Validator(SCHEMA).validate(document)
    assert document["verdict"]["status"] == "NOT_READY"
    assert '<h1 id="may">Not ready</h1>' in (tmp_path / "r.html").read_text(encoding="utf-8")
    assert "Not ready" in (tmp_path / "r.md").read_text(encoding="utf-8").splitlines()[0]
    assert done.stderr.splitlines() == ["wrote r.html", "wrote r.md"]
    shown = report("bad", "--markdown")
    assert shown.stdout.startswith("## ")


def test_figures_are_explained_and_verified(report: Report) -> None:
    """--explain lists the ticks of a criterion; --verify needs a stored verdict, and agrees with it."""
    assert "no verdict of run bad is stored" in report("bad", "--verify").stderr
    report("bad")
    explained = report("bad", "--explain", "mismatch/act", "--limit", "2")
    assert explained.returncode == 0
    assert "60 ticks on which the two part at this step" in explained.stdout and "and 58 more" in explained.stdout
    verified = report("bad", "--verify")
    assert verified.returncode == 0 and "it is the same, figure by figure" in verified.stdout


def test_watch_ends_with_the_run(report: Report) -> None:
    """A run that has ended is shown once, and its verdict is the exit code."""
    done = report("short", "--watch")
    assert (done.returncode, done.stdout.count("KEEP RUNNING")) == (4, 1)


def test_a_wrong_policy_is_named_by_its_key(report: Report, tmp_path: Path) -> None:
    """Exit code 2, nothing on standard output, and the key at fault on standard error: never a verdict."""
    whole = (Path(__file__).parents[2] / "reports/policies/scaled.toml").read_text(encoding="utf-8")
    for policy, said in (
        ("[mismatch]\nbudget = 0", "`mismatch.budget` must lie between 0 and 1"),
        ("[mismatch]\nbudget = 1", "`mismatch.budget` must lie between 0 and 1"),
        ("[mismatch]\nbudged = 0.1", "did you mean `budget`?"),
        ("[mismatch", "is no TOML"),
    ):
        (tmp_path / "policy.toml").write_text(whole.replace("[mismatch]\nbudget = 0.05", policy), encoding="utf-8")
        done = report("ready", "--policy", "policy.toml")
        assert (done.returncode, done.stdout) == (2, "")
        assert said in done.stderr and "Traceback" not in done.stderr


def test_wrong_input_is_named(report: Report) -> None:
    """Exit code 2 and the culprit on standard error."""
    for arguments, said in (
        (["nothing"], "there is no run 'nothing'"),
        (["ready", "--policy", "nowhere.toml"], "cannot read the policy nowhere.toml"),
        (["ready", "--explain", "mismatsh"], "did you mean mismatch?"),
        (["ready", "--html", "no/such/place.html"], "cannot write no/such/place.html"),
        (["ready", "--json", "--verify"], "choose one of"),
        (["ready", "--watch", "--html", "r.html"], "leave out --html"),
        (["ready", "--fail-under", "MAYBE"], "MAYBE"),
    ):
        done = report(*arguments)
        assert done.returncode == 2 and said in done.stderr and done.stdout == ""


def test_a_database_of_another_schema_is_refused(empty_database: str, tickover: RunCommand) -> None:
    """A database that is not at this version's schema gives no verdict but the command that brings it there."""
    done = tickover("report", DATABASE_URL=empty_database)
    assert done.returncode in (2, 3) and done.stdout == ""
    assert "tickover db upgrade" in done.stderr


def test_a_plan_names_the_ticks_of_each_criterion(tickover: RunCommand) -> None:
    """`plan` needs no database: 694 clean ticks at 0.5 %, and 24 h under the production policy."""
    done = tickover("plan", "--every", "60s", "--policy", "production")
    assert done.returncode == 0, done.stderr
    assert "READY at the earliest after 694 ticks without any fault: 24 h" in done.stdout
    assert json.loads(tickover("plan", "--every", "1h", "--json").stdout)["production"]["seconds_clean"] == 694 * 3600
    assert tickover("plan", "--every", "soon").returncode == 2
