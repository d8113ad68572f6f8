"""Plans of faults: which trials they make, and what is said of a plan that is wrong."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

from digital_being import heavy_tick
from shadow.drill import POOL, pool_of
from shadow.faults import KINDS, FaultPlan, Planned, Shot, load_plan, parse_plan, shots, standard, strikable
from tests.conftest import ROOT
from tickover.errors import ConfigurationError
from tickover.faults import AT_CALL, AT_ENTRY, AT_HINT, MEANWHILE

POSSIBLE = dict.fromkeys(KINDS, heavy_tick.order)


def test_the_standard_plan_has_every_kind_as_often() -> None:
    """Each kind of fault, as many trials of each as asked for, in an order that is not the list's."""
    made = shots(standard(), POSSIBLE, trials=3, seed=1)
    assert Counter(shot.kind for shot in made) == dict.fromkeys(KINDS, 3)
    assert [shot.kind for shot in made] != [kind for kind in KINDS for _ in range(3)]


def test_a_seed_decides_everything() -> None:
    """The same seed makes the same trials; another one others; no two trials of a drill are alike."""
    made = shots(standard(), POSSIBLE, trials=4, seed=5)
    assert made == shots(standard(), POSSIBLE, trials=4, seed=5)
    assert made != shots(standard(), POSSIBLE, trials=4, seed=6)
    assert len({(shot.kind, shot.seed) for shot in made}) == len(made)


def test_naming_the_step_changes_nothing_else() -> None:
    """A trial that is run again with its step named strikes at the same moment and tick."""
    shot = shots(standard(), POSSIBLE, trials=1, seed=5)[0]
    again = Shot(kind=shot.kind, steps=(shot.step(),), seed=shot.seed)
    assert again.step() == shot.step()
    assert again.draw("tick").random() == shot.draw("tick").random()


def test_trials_are_the_commands_then_the_entrys_then_the_plans() -> None:
    """What is typed goes before what the plan says of a kind, and that before what it says of all."""
    plan = FaultPlan(name="p", faults=(Planned(kind="hang"), Planned(kind="lost_hint", trials=2)), trials=3)
    assert Counter(s.kind for s in shots(plan, POSSIBLE, trials=None, seed=1)) == {"hang": 3, "lost_hint": 2}
    assert Counter(s.kind for s in shots(plan, POSSIBLE, trials=1, seed=1)) == {"hang": 1, "lost_hint": 1}


def test_a_kind_strikes_only_where_it_can() -> None:
    """Hints matter for the first step, port faults for steps with calls, slowness for steps with time left."""
    found = {
        name: strikable(heavy_tick, KINDS[name], {"monologue", "action"}, {"social"})
        for name in ("lost_hint", "model_outage", "slow_step", "hang")
    }
    assert found == {
        "lost_hint": ("monologue",), "model_outage": ("monologue", "action"), "slow_step": ("social",),
        "hang": heavy_tick.order,
    }  # fmt: skip


def test_a_plan_is_read_from_toml(tmp_path: Path) -> None:
    """Kinds, steps and trials as they stand there; the name is the file's where none is given."""
    path = tmp_path / "nightly.toml"
    path.write_text(
        'format = 1\ntrials = 7\n[[fault]]\nkind = "hang"\nsteps = ["action"]\n[[fault]]\nkind = "lost_hint"\n'
    )
    plan = load_plan(str(path))
    assert plan == FaultPlan(
        name="nightly", trials=7, faults=(Planned(kind="hang", steps=("action",)), Planned(kind="lost_hint"))
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("format = ", "is no TOML"),
        ("", "`format` must be 1"),
        ("format = 2", "`format` must be 1, not 2"),
        ("format = 1", "`fault` must be at least one"),
        ("format = 1\nfault = 3", "`fault` must be at least one"),
        ("format = 1\nfaults = 3", "`faults` is unknown; did you mean `fault`?"),
        ("format = 1\ntrials = 0\n[[fault]]\nkind = 'hang'", "`trials` must be a whole number above 0, not 0"),
        ("format = 1\n[[fault]]\nkind = 'hang'\ntrials = true", "`fault[0].trials` must be a whole number"),
        ("format = 1\n[[fault]]\nsteps = ['a']", "`fault[0].kind` is missing"),
        ("format = 1\n[[fault]]\nkind = 'hang'\n[[fault]]\nkind = 'hag'", "`fault[1].kind`: there is no kind"),
        ("format = 1\n[[fault]]\nkind = 'hang'\nstep = 'a'", "`fault[0].step` is unknown; did you mean `steps`?"),
        ("format = 1\n[[fault]]\nkind = 'hang'\nsteps = 'a'", "`fault[0].steps` must be a list of step names"),
    ],
)  # fmt: skip
def test_a_wrong_plan_is_refused_by_its_key(text: str, said: str) -> None:
    """The message names the file, the key and what would do."""
    with pytest.raises(ConfigurationError) as refused:
        parse_plan(text, "mine.toml")
    assert said in str(refused.value) and "mine.toml" in str(refused.value)


def test_a_step_that_cannot_be_struck_is_refused() -> None:
    """A plan that names a step which the kind cannot strike says which it can."""
    plan = FaultPlan(name="p", faults=(Planned(kind="lost_hint", steps=("social",)),))
    with pytest.raises(ConfigurationError, match=r"cannot strike step 'social'; .* monologue"):
        shots(plan, {"lost_hint": ("monologue",)}, trials=1, seed=1)


def test_a_plan_that_is_not_there_is_refused(tmp_path: Path) -> None:
    """A missing file, and one that is no text, are named."""
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe")
    for name in ("nowhere.toml", "bytes.toml"):
        with pytest.raises(ConfigurationError, match=name):
            load_plan(str(tmp_path / name))


def test_the_guide_has_every_kind_and_a_plan_that_can_be_read() -> None:
    """`docs/drills.md` names each kind of fault, and its plan is one."""
    guide = (ROOT / "docs" / "drills.md").read_text(encoding="utf-8")
    assert [kind for kind in KINDS if f"`{kind}`" not in guide] == []
    (plan,) = re.findall(r"```toml\n(.*?)```", guide, re.DOTALL)
    assert parse_plan(plan, "nightly.toml").name == "nightly"


def test_each_kind_strikes_at_one_point() -> None:
    """The kinds that a plan may name are those that the fault points know, each at one of them."""
    points = [AT_ENTRY, MEANWHILE, AT_HINT, AT_CALL]
    assert sorted(kind for point in points for kind in point) == sorted(KINDS)


def test_the_ticks_of_a_drill_have_every_step_among_them() -> None:
    """A step that runs on one tick of many is in the pool; the pool is the same each time, and bounded."""
    called = {tick: frozenset({"monologue", "action"}) for tick in range(200)} | {77: frozenset({"meta"})}
    pool = pool_of(called, "run")
    assert 77 in pool and len(pool) == POOL and pool == pool_of(called, "run")
    assert pool_of(called, "another run") != pool
    assert pool_of({3: frozenset()}, "run") == [3]
