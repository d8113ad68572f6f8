"""Tests of reports.policy: what a policy may say, and how a wrong one is refused."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path

import pytest

from reports.policy import BUILT_IN, MOST_ERROR, BadPolicy, from_json, load_policy, parse_policy

PRODUCTION = resources.files("reports").joinpath("policies", "production.toml").read_text()


@pytest.mark.parametrize("name", BUILT_IN)
def test_a_built_in_policy_survives_json(name: str) -> None:
    """What is stored with a verdict is read back as the same policy."""
    policy = load_policy(name)
    assert from_json(policy.to_json(), source="stored") == policy
    assert policy.digest == from_json(policy.to_json(), source="stored").digest


@pytest.mark.parametrize(
    ("old", "new", "culprit"),
    [
        ("[mismatch]", "[mismach]", "`mismach` is unknown; did you mean `mismatch`"),
        ("budget = 0.005", "budget = 0", "`mismatch.budget` must lie between 0 and 1"),
        ("budget = 0.005", "budget = 1", "`mismatch.budget` must lie between 0 and 1"),
        ("budget = 0.005", "budget = nan", "`mismatch.budget` must be a number"),
        ("budget = 0.005", 'budget = "little"', "`mismatch.budget` must be a number"),
        ("budget = 0.005", "", "`mismatch.budget` is missing"),
        ("budget = 0.005", "budget = 0.005\nbuget = 1", "`mismatch.buget` is unknown; did you mean `budget`"),
        ("alpha = 0.05", "alpha = 5", "`alpha` must lie between 0 and 1"),
        ("alpha = 0.05", "", "`alpha` is missing"),
        ("alpha = 0.05", "alpha = 0.5", "`alpha` must be 0.1 at most, not 0.5: it is how often a verdict is wrong"),
        ("beta = 0.05", "beta = 0.99", "`beta` must be 0.1 at most, not 0.99"),
        ("beta = 0.05", "beta = 0", "`beta` must lie between 0 and 1"),
        ("format = 1", "format = 2", "`format` must be 1"),
        ("block = 60", "block = 0", "`speed.block` must be a whole number"),
        ("factor = 1.1", "factor = -1", "`speed.factor` must be above 0"),
        ("hours = 24.0", "hours = -1", "`gates.hours` must not be -1"),
        ("hours = 24.0", "", "`gates.hours` is missing"),
        ("completeness = 0.99", "completeness = 99", "`gates.completeness` must not be 99"),
        ("ticks = 0", "ticks = 0.5", "`gates.ticks` must be a whole number"),
        ("[gates]", "[gates]\nnoise = 1", "`gates.noise` must lie between 0 and 1"),
        ("seldom = 0.6", "seldom = 60", "`gates.seldom` must not be 60"),
        ("[gates]", "[gates]\nfaults = 'hang'", "`gates.faults` must be a list of texts"),
        ("[gates]", "[gates]\nfault = ['hang']", "`gates.fault` is unknown; did you mean `faults`"),
        ("trials_per_fault = 5", "trials_per_fault = 0\nfaults = ['hang']", "`gates.faults` asks for drills"),
        ("[deadline]", "[deadline]\ncritical = false", "`deadline.critical` must be true"),
        ("[mismatch]", "[mismatch]\ncritical = 1", "`mismatch.critical` must be true"),
        ("[gates]", "[steps.meta]\nbudget = 2\n[gates]", "`steps.meta.budget` must lie between 0 and 1"),
        ("failed = 1", "faild = 1", "`guardrails.faild` is unknown; did you mean `failed`"),
        ("failed = 1", "failed = 1.5", "`guardrails.failed` must be a whole number"),
        ("failed = 1", "failed = -1", "`guardrails.failed` must not be negative"),
        ("failed = 1", "failed = true", "`guardrails.failed` must be a number, or false for none"),
        ("window_ticks = 60", "window_ticks = 0", "`guardrails.window_ticks` must be above 0"),
        ("window_ticks = 60", "window_ticks = false", "`guardrails.window_ticks` must be a number"),
        ("hung_s = 300.0", "hung_s = 0", "`guardrails.hung_s` must be above 0"),
        ("hung_s = 300.0", "hung_s = inf", "`guardrails.hung_s` must be a number"),
        ("quiet_hours = 168", "quiet_hours = -1", "`switchover.quiet_hours` must be hours, 0 at least"),
        ("quiet_hours = 168", "quiet_hours = 'a week'", "`switchover.quiet_hours` must be a number"),
        ("evidence_hours", "evidence_hour", "`switchover.evidence_hour` is unknown; did you mean `evidence_hours`"),
        ("[switchover]", "[[switchover]]", "`switchover` must be a table"),
    ],
)  # fmt: skip
def test_a_wrong_policy_is_refused_by_key(old: str, new: str, culprit: str) -> None:
    """The error names the source and the key, and says what is allowed."""
    with pytest.raises(BadPolicy) as caught:
        parse_policy(PRODUCTION.replace(old, new, 1), source="mine.toml")
    assert "mine.toml" in str(caught.value) and culprit in str(caught.value)


def test_errors_may_be_small_and_one_in_ten_at_most() -> None:
    """The bound itself is allowed, and so is an alpha that is divided among many versions."""
    text = PRODUCTION.replace("alpha = 0.05", "alpha = 5e-6").replace("beta = 0.05", f"beta = {MOST_ERROR}")
    policy = parse_policy(text, source="mine.toml")
    assert (policy.alpha, policy.beta) == (5e-6, 0.1)


def test_a_step_may_have_a_rule_of_its_own() -> None:
    """A step that matters less has its own budget; the others keep theirs."""
    policy = parse_policy(PRODUCTION + "\n[steps.meta]\nbudget = 0.1\ncritical = false\n", source="mine.toml")
    assert (policy.step("meta").budget, policy.step("meta").critical) == (0.1, False)
    assert policy.step("action") == policy.step_mismatch


def test_a_policy_may_name_faults_and_noise() -> None:
    """Both survive JSON, and change what identifies the policy."""
    plain = parse_policy(PRODUCTION, source="mine.toml")
    policy = parse_policy(PRODUCTION + "faults = ['hang']\nnoise = 0.02\n", source="mine.toml")
    assert (policy.gates.faults, policy.gates.noise) == (("hang",), 0.02)
    assert from_json(json.loads(json.dumps(policy.to_json())), source="stored") == policy
    assert policy.digest != plain.digest


def test_what_follows_a_verdict_is_no_part_of_it() -> None:
    """Guardrails and times survive JSON, and may change without a version's evidence becoming another's: what was
    found NOT_READY stays so. A policy that was stored without them has the defaults."""
    plain = parse_policy(PRODUCTION, source="mine.toml")
    policy = parse_policy(PRODUCTION.replace("failed = 1", "failed = false"), source="mine.toml")
    assert (plain.guardrails.failed, policy.guardrails.failed) == (1, None)
    assert from_json(json.loads(json.dumps(policy.to_json())), source="stored") == policy
    assert policy.digest == plain.digest
    stored = from_json(policy.judgement(), source="stored")
    assert stored.guardrails == plain.guardrails and stored.digest == policy.digest


def test_steps_that_the_workload_lacks_are_named() -> None:
    """With a near name if there is one, else with those that there are."""
    policy = parse_policy(PRODUCTION + "\n[steps.social]\nbudget = 0.1\n", source="mine.toml")
    policy.check_steps(["social", "meta"])
    with pytest.raises(BadPolicy, match=r"`steps\.social` names no step of this workload; it has action, meta"):
        policy.check_steps(["action", "meta"])


def test_a_policy_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    """A missing file, one that is no text and one that is no TOML are each named."""
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe")
    (tmp_path / "text.toml").write_text("alpha = ")
    for name in ("none.toml", "bytes.toml", "text.toml"):
        with pytest.raises(BadPolicy, match=name):
            load_policy(str(tmp_path / name))
