"""Verdicts on stored runs: evidence as defined, latches, verification, and runs that can prove nothing."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence

import pytest
from sqlalchemy import text

from reports.build import Built, build
from reports.curves import details
from reports.evidence import read_counts, run_state
from reports.explain import UnknownCriterion, explain
from reports.html import render as page
from reports.policy import Policy, load_policy, parse_policy
from reports.tally import Pairs, Tally
from reports.terminal import render
from reports.verify import verify_run
from shadow.compare import Kind
from shadow.observation import Outcome
from shadow.store import Store, UnreadableRun
from shadow.surface import Surface
from tests.integration.report_samples import TickSample, make_run
from tickover.ground.database import engine

NOW = dt.datetime(2026, 3, 2, tzinfo=dt.UTC)
# Seventy clean ticks pass a budget of 5 %; times are far enough apart for any interval.
CLEAN = [TickSample()] * 120


@pytest.fixture
def store(database: str) -> Store:
    return Store(engine(database))


@pytest.fixture
def scaled() -> Policy:
    return load_policy("scaled")


def _report(store: Store, run: str, policy: Policy) -> Built:
    return build(store, run, policy, policy.name, now=NOW)


def _made(store: Store, name: str, ticks: Sequence[TickSample], **more: object) -> None:
    make_run(store, name, ticks, time_scale=0.01, **more)  # type: ignore[arg-type]


def test_evidence_is_counted_as_defined(store: Store, scaled: Policy) -> None:
    """Each kind of comparison counts where it belongs: a mismatch against its step, a consequence nowhere, a failure
    as a failure, a tick of unknown outcome as unknown everywhere, one that did not apply as no evidence."""
    _made(
        store, "r",
        [
            *[TickSample()] * 10,
            TickSample(kind=Kind.MISMATCH, differs="fetch"),
            TickSample(kind=Kind.MISMATCH, differs="note"),
            TickSample(kind=Kind.IMPROVED, control=Outcome.FAILED, control_gave_up=True),
            TickSample(kind=Kind.UNVERIFIED, control_gave_up=True),
            TickSample(kind=Kind.TOLERATED),
            TickSample(kind=Kind.CANDIDATE_FAILED, candidate=Outcome.FAILED, differs="act"),
            TickSample(kind=Kind.BOTH_FAILED, control=Outcome.FAILED, candidate=Outcome.LOST),
            TickSample(kind=Kind.NOT_COMPARED, control=None, candidate=None),
            TickSample(idle=("note",)),
        ],
    )  # fmt: skip
    found = _report(store, "r", scaled).evidence
    assert found.whole == Tally(n=16, bad=2, hidden=1, unverified=1, unknown=1)
    assert found.failures == Pairs(n=18, new_only=1, old_only=1, unknown=1)
    assert found.steps["fetch"] == Tally(n=16, bad=1, unverified=1, unknown=1)
    assert found.steps["think"] == Tally(n=15, bad=0, unverified=1, unknown=1)
    assert found.steps["note"] == Tally(n=14, bad=1, unverified=1, unknown=1, not_applied=1)
    assert (found.started, found.compared) == (19, 18)
    assert found.deadline == Tally(n=18, bad=2, unknown=1)


def test_a_clean_run_is_ready_and_the_same_ticks_without_data_are_not(store: Store, scaled: Policy) -> None:
    """120 clean ticks are READY under the scaled policy, 60 are not yet, and none at all are never."""
    verdicts = {}
    for name, ticks in (("clean", CLEAN), ("short", CLEAN[:60]), ("empty", [])):
        _made(store, name, ticks)
        verdicts[name] = _report(store, name, scaled).report.verdict.status
    assert verdicts == {"clean": "READY", "short": "KEEP_RUNNING", "empty": "KEEP_RUNNING"}


def test_who_goes_on_as_told_needs_no_further_tick(store: Store) -> None:
    """An hour of clean ticks lacks evidence and hours: with as many ticks as the command says there are both."""
    found = []
    for ticks in (60, 1440):
        make_run(store, f"r{ticks}", [TickSample()] * ticks)
        found.append(_report(store, f"r{ticks}", load_policy("production")).report)
    assert "shadow --resume r60 --ticks 1440`" in found[0].needed_sentence
    make_run(store, "quick", [TickSample()] * 5, every_s=0.0)
    quick = _report(store, "quick", load_policy("production")).report.needed_sentence
    assert "another run, with an interval: `tickover shadow --ticks" in quick and "--resume" not in quick
    assert "tickover drill r1440`" in found[1].needed_sentence and "--resume" not in found[1].needed_sentence


@pytest.mark.parametrize("status", ["interrupted", "running"])
def test_a_run_without_its_runner_is_never_ready(store: Store, scaled: Policy, status: str) -> None:
    """An interrupted run, and one whose runner is gone while its status still says running, bar READY and name the
    command that goes on; ticks that were begun and not compared count as the worst case."""
    _made(store, "r", CLEAN, status=status)
    with store.engine.begin() as connection:
        connection.execute(text("DELETE FROM shadow_comparisons WHERE tick >= 118"))
    found = _report(store, "r", scaled)
    assert found.report.verdict.status == "KEEP_RUNNING"
    assert found.report.run.status == ("interrupted" if status == "interrupted" else "abandoned")
    assert "shadow --resume r" in found.report.needed_sentence
    assert found.evidence.whole.unknown == 2


def test_a_look_at_a_killed_run_does_not_condemn_its_version(store: Store, scaled: Policy) -> None:
    """A report on a run that was cut off with most of its ticks in flight says KEEP_RUNNING, and READY when
    the ticks are compared after all."""
    _made(store, "r", CLEAN, status="running")
    with store.engine.begin() as connection:
        connection.execute(text("CREATE TABLE aside AS SELECT * FROM shadow_comparisons WHERE tick >= 5"))
        connection.execute(text("DELETE FROM shadow_comparisons WHERE tick >= 5"))
    cut_off = _report(store, "r", scaled)
    assert (cut_off.evidence.whole.unknown, cut_off.report.verdict.status) == (len(CLEAN) - 5, "KEEP_RUNNING")
    with store.engine.begin() as connection:
        connection.execute(text("INSERT INTO shadow_comparisons SELECT * FROM aside"))
    store.set_status("r", "done")
    assert _report(store, "r", scaled).report.verdict.status == "READY"


def test_a_run_that_goes_on_is_reported_as_such(store: Store, scaled: Policy) -> None:
    """While a runner holds the run it is running, and ticks in flight are not missing."""
    _made(store, "r", CLEAN, status="running")
    with store.engine.begin() as connection:
        connection.execute(text("DELETE FROM shadow_comparisons WHERE tick >= 118"))
    with store.hold("r", "test"):
        found = _report(store, "r", scaled)
    assert found.report.run.status == "running"
    assert (found.evidence.whole.unknown, found.report.verdict.status) == (0, "READY")


def test_not_ready_stays_for_the_version(store: Store, scaled: Policy) -> None:
    """Once NOT_READY, a later clean run of the same version and judgement stays so and says since when; another
    version starts anew, and so does another policy, which the report mentions."""
    keys = {"behaviour": "v1", "judgement": "j"}
    _made(store, "bad", [TickSample(kind=Kind.MISMATCH, differs="act")] * 120, keys=keys)
    assert _report(store, "bad", scaled).report.verdict.status == "NOT_READY"
    _made(store, "again", CLEAN, keys=keys)
    again = _report(store, "again", scaled).report
    assert (again.verdict.status, again.verdict.latched_at is not None) == ("NOT_READY", True)
    assert "run bad" in again.verdict.reasons[0]
    _made(store, "next", CLEAN, keys={"behaviour": "v2", "judgement": "j"})
    assert _report(store, "next", scaled).report.verdict.status == "READY"
    other = parse_policy(_with(budget="0.06"), source="other")
    relaxed = _report(store, "again", other).report
    # Not latched, and yet the mismatches of the first run are not forgotten.
    assert relaxed.verdict.status == "KEEP_RUNNING"
    assert any("was judged NOT_READY under policy scaled" in note for note in relaxed.notes)


def test_earlier_runs_of_the_version_count_too(store: Store, scaled: Policy) -> None:
    """A clean run after one of the same version with mismatches, failures, late and missing ticks is not READY, and
    the report names the run; what it adds is what a count of its ticks gives. Other rules leave out its mismatches,
    another interval its lateness, another version and a later run everything."""
    keys = {"behaviour": "v", "judgement": "j"}
    ticks = [
        *[TickSample()] * 40, *[TickSample(kind=Kind.MISMATCH, differs="act")] * 9,
        *[TickSample(kind=Kind.CANDIDATE_FAILED, candidate=Outcome.FAILED, differs="act")] * 3,
        *[TickSample(candidate_ms=700.0)] * 2, *[TickSample()] * 6,
    ]  # fmt: skip
    _made(store, "first", ticks, keys=keys, status="interrupted")
    with store.engine.begin() as connection:
        connection.execute(text("DELETE FROM shadow_comparisons WHERE tick >= 58"))
    _made(store, "again", CLEAN, keys=keys)
    found = _report(store, "again", scaled)
    assert found.report.verdict.status == "KEEP_RUNNING"
    assert any("Earlier runs" in note and note.endswith("first.") for note in found.report.notes)
    earlier = found.evidence.earlier
    assert earlier is not None and earlier.runs == 1
    assert earlier.whole == Tally(n=55, bad=9, unknown=2)
    assert earlier.steps["act"] == Tally(n=55, bad=9, unknown=2)
    assert earlier.failures == Pairs(n=58, new_only=3, unknown=2)
    assert earlier.deadline == Tally(n=58, bad=5, unknown=2)
    assert found.evidence.whole == Tally(n=120)
    assert verify_run(store, "again").differs == ()
    _made(store, "rules", CLEAN, keys={"behaviour": "v", "judgement": "other"})
    other = _report(store, "rules", scaled).evidence.earlier
    assert other is not None and (other.runs, other.whole, other.failures.new_only) == (2, Tally(), 3)
    _made(store, "slower", CLEAN, keys=keys, every_s=600.0)
    slower = _report(store, "slower", scaled).evidence.earlier
    assert slower is not None and (slower.runs, slower.deadline) == (3, Tally())
    assert _report(store, "first", scaled).evidence.earlier is None
    _made(store, "next", CLEAN, keys={"behaviour": "w", "judgement": "j"})
    assert _report(store, "next", scaled).report.verdict.status == "READY"


def test_a_run_that_ended_since_is_verified(store: Store, scaled: Policy) -> None:
    """A verdict was given when all ticks were compared and the run had not ended: ending it changes no figure, and
    the outcome says how the run stands now."""
    make_run(store, "r", CLEAN[:20], time_scale=0.01, status="interrupted")
    _report(store, "r", scaled)
    assert verify_run(store, "r").status_since is None
    store.set_status("r", "done")
    found = verify_run(store, "r")
    assert (found.differs, found.ticks_since, found.status_since) == ((), 0, "done")


def test_a_verdict_is_stored_once_and_verified(store: Store, scaled: Policy) -> None:
    """Reporting twice on the same evidence stores one verdict; verification recounts the ticks and agrees."""
    _made(store, "r", CLEAN)
    first, second = (_report(store, "r", scaled).report.verdict.number for _ in range(2))
    assert first == second
    found = verify_run(store, "r")
    assert (found.differs, found.ticks_since) == ((), 0)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("UPDATE verdicts SET outcome = replace(outcome, '\"READY\"', '\"NOT_READY\"')", "the verdict was NOT_READY"),
        ("UPDATE shadow_comparisons SET kind = 'mismatch' WHERE tick = 5", "counted again, whole is"),
        ("UPDATE shadow_comparisons SET candidate_ms = 1e9 WHERE tick = 5", "counted again, tail is"),
    ],
)
def test_verification_finds_what_was_changed(store: Store, scaled: Policy, change: str, said: str) -> None:
    """A stored verdict, or a comparison behind it, that was changed by hand is named."""
    _made(store, "r", CLEAN)
    _report(store, "r", scaled)
    with store.engine.begin() as connection:
        connection.execute(text(change))
    assert any(difference.startswith(said) for difference in verify_run(store, "r").differs)


def test_an_unwatched_door_bars_ready_until_it_is_waived(store: Store, scaled: Policy) -> None:
    """What the control used and nobody watches is named, and READY waits for a policy that waives it;
    a run that kept nothing about doors is no better."""
    _made(store, "r", CLEAN, surface={"observed": ["http"], "unobserved": ["process git"]})
    found = _report(store, "r", scaled).report
    assert found.verdict.status == "KEEP_RUNNING"
    assert any("process git" in reason for reason in found.verdict.reasons)
    _made(store, "unknown", CLEAN, surface=None)
    assert _report(store, "unknown", scaled).report.verdict.status == "KEEP_RUNNING"
    waived = parse_policy('waived = ["process git"]\n' + _with(), source="w")
    assert _report(store, "r", waived).report.verdict.status == "READY"


def test_an_explanation_lists_exactly_the_ticks_behind_a_figure(store: Store, scaled: Policy) -> None:
    """The ticks listed are those that count, the figure is their number, and an unknown name suggests a known one."""
    ticks = [TickSample(kind=Kind.MISMATCH, differs="act") if tick % 40 == 3 else TickSample() for tick in range(120)]
    _made(store, "r", ticks)
    found = explain(store, "r", scaled, "mismatch/act", 2)
    assert found.criterion.bad == 3
    assert [(part.total, [row.tick for row in part.ticks]) for part in found.parts if part.total] == [(3, [3, 43])]
    assert explain(store, "r", scaled, "mismatch/note", 9).criterion.bad == 0
    with pytest.raises(UnknownCriterion, match="did you mean mismatch/act"):
        explain(store, "r", scaled, "mismatch/akt", 2)


def test_what_rules_hid_is_told_by_step_and_counts_again_once_they_expire(store: Store, scaled: Policy) -> None:
    """With a rule 40 ticks of step act are hidden and the run is READY; the report names rule, step and ticks, and
    says NOT_READY for the verdict without it. On the day after its last the same ticks count, at their step alone,
    and each is listed behind the figure; a verdict that was given before is verified as of its day."""
    rule = {
        "name": "known", "action": "ignore", "step": "act", "path": "**", "reason": "meant so", "owner": "ada",
        "expires": "2026-03-02",
    }  # fmt: skip
    hidden = TickSample(kind=Kind.TOLERATED, hides={"act": ("known",)})
    keys = {"behaviour": "b", "judgement": "j", "rules": [rule]}
    _made(store, "r", [hidden] * 40 + CLEAN, keys=keys)
    before = _report(store, "r", scaled)
    assert (before.report.verdict.status, before.report.verdict.without_rules) == ("READY", "NOT_READY")
    assert [(each.name, each.ticks, each.steps, each.expired) for each in before.report.rules] == [
        ("known", 40, {"act": 40}, False)
    ]
    assert (before.evidence.steps["act"].hidden, before.evidence.steps["think"].hidden) == (40, 0)
    listed = explain(store, "r", scaled, "mismatch/act", 3, today=NOW.date())
    assert [(part.title, part.total) for part in listed.parts if part.total] == [("hidden by rules, not counted", 40)]
    with store.engine.begin() as connection:
        connection.execute(text("UPDATE verdicts SET created_at = :now"), {"now": NOW})
    assert verify_run(store, "r").differs == ()
    after = build(store, "r", scaled, "scaled", now=NOW + dt.timedelta(days=1))
    assert after.report.verdict.status == "NOT_READY" and after.report.verdict.without_rules is None
    assert (after.evidence.whole.bad, after.evidence.steps["act"].bad, after.evidence.steps["think"].bad) == (
        40,
        40,
        0,
    )
    assert any("Rule known has expired: what it hid on 40 ticks counts again" in note for note in after.report.notes)
    for name in ("mismatch", "mismatch/act"):
        late = explain(store, "r", scaled, name, 3, today=dt.date(2026, 3, 3))
        counted = [part for part in late.parts if part.total]
        assert [(part.total, [row.tick for row in part.ticks]) for part in counted] == [(40, [0, 1, 2])]
        assert late.criterion.bad == 40


def test_hostile_names_and_huge_values_reach_no_rendering(store: Store, scaled: Policy) -> None:
    """Strata, values and paths with escape sequences, tags and enormous numbers are shown by name or not at all."""
    nasty = "\x1b[2J<img src=x onerror=alert(1)>\u202e"
    ticks = [
        TickSample(kind=Kind.MISMATCH, differs="act", values=({nasty: 10**300}, [nasty] * 3000), stratum=nasty),
        TickSample(control_ms=1e300, candidate_ms=1e-300),
        TickSample(control_ms=1e-320, candidate_ms=1.7e308),
        TickSample(control_ms=0.0, candidate_ms=0.0),
    ]
    _made(store, "r", ticks)
    built = _report(store, "r", scaled)
    shown = render(built.report, colour=False)
    assert "\x1b" not in shown and "\u202e" not in shown and "\\u001b[2J" in shown
    html = page(built.report, details(store, built, scaled))
    assert "<img" not in html and "\x1b" not in html


def test_a_snapshot_is_of_one_instant(store: Store, scaled: Policy) -> None:
    """Counts of a run in which ticks come in while it is read agree with each other."""
    _made(store, "r", CLEAN)
    record = store.run("r")
    counts = read_counts(store, record, scaled)
    assert counts.n == counts.slower.n == sum(hour.count for hour in counts.hours) == 120
    assert run_state(store, record, counts).missing == 0


def test_a_run_of_another_version_is_refused_by_name(store: Store, scaled: Policy) -> None:
    """A plan that lacks what this version needs, or holds what it does not know, is no evidence of anything."""
    for name, change in (("older", "- 'mode'"), ("newer", "|| '{\"moons\": 2}'")):
        _made(store, name, CLEAN)
        with store.engine.begin() as connection:
            connection.execute(
                text(f"UPDATE shadow_runs SET plan = (plan::jsonb {change})::text WHERE run = :run"), {"run": name}
            )
        with pytest.raises(UnreadableRun, match=f"run {name} was stored by another version"):
            _report(store, name, scaled)


def test_the_surface_is_kept_as_it_grows(store: Store) -> None:
    """What was seen stands in the store at once, and a resumed run goes on from what the first part saw."""
    _made(store, "r", [], surface=None)
    first = Surface(store, store.run("r"))
    first.add(["http"], [])
    assert store.run("r").surface == {"observed": ["http"], "unobserved": []}
    Surface(store, store.run("r")).add(["files"], ["process git"])
    assert store.run("r").surface == {"observed": ["files", "http"], "unobserved": ["process git"]}


def _with(budget: str = "0.05") -> str:
    """The scaled policy as text, with another budget for mismatches."""
    from importlib import resources

    text_ = resources.files("reports").joinpath("policies", "scaled.toml").read_text(encoding="utf-8")
    return text_.replace("[mismatch]\nbudget = 0.05", f"[mismatch]\nbudget = {budget}")
