"""The comparison of two observations of one tick, and what kind it is. Pure: it reads nothing and keeps nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from shadow.diff import Change, changes
from shadow.effect_diff import effect_changes
from shadow.hidden import Hidden, sift
from shadow.misses import Miss
from shadow.noise import by_form
from shadow.observation import RAN, TROUBLE, Graph, Observation, ObservedEffect, Outcome, StepObservation, StepStatus
from shadow.rules import Rules, Tolerance, no_rules
from shadow.signature import NO_STEP, STATE, Area, Attribution, Difference, attribute, status_change
from tickover.canonical import canonical_text
from tickover.execution import System

# Differences kept with a comparison; the first ones tell the cause.
MAX_KEPT = 60


class Kind(StrEnum):
    """What a comparison says."""

    MATCH = "match"
    TOLERATED = "tolerated"  # a rule hides what differs
    IMPROVED = "improved"  # the control gave up or failed; the candidate equals a reference
    UNVERIFIED = "unverified"  # the control gave up or failed; no reference was possible
    MISMATCH = "mismatch"
    CANDIDATE_FAILED = "candidate_failed"
    BOTH_FAILED = "both_failed"
    NOT_COMPARED = "not_compared"


class StepVerdict(StrEnum):
    """What a comparison says of one step."""

    EQUAL = "equal"
    DIFFERS = "differs"
    CONSEQUENCE = "consequence"  # differs, and so does one that it depends on
    NOT_APPLICABLE = "not_applicable"
    NOT_COMPARED = "not_compared"  # not reached, or not visible, in one of the two


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """What two observations of one tick have to do with each other; immutable.

    reason: one sentence on the kind. against: "control" or "reference". attributions: where the two part, the first
    in the graph first. steps: the verdict on each step. hidden: what rules hid, None if nothing.
    """

    kind: Kind
    reason: str
    against: str = "control"
    attributions: tuple[Attribution, ...] = ()
    differences: tuple[Difference, ...] = ()
    tolerances: tuple[Tolerance, ...] = ()
    misses: tuple[Miss, ...] = ()
    steps: Mapping[str, StepVerdict] = field(default_factory=dict)
    hidden: Hidden | None = None

    def to_json(self) -> dict[str, Any]:
        """The comparison as a JSON document."""
        return {
            "kind": self.kind.value,
            "reason": self.reason,
            "against": self.against,
            "attributions": [attribution.to_json() for attribution in self.attributions],
            "differences": [difference.to_json() for difference in self.differences[:MAX_KEPT]],
            "differences_found": len(self.differences),
            "tolerances": [{"rule": t.rule, "reason": t.reason, "owner": t.owner} for t in self.tolerances],
            "misses": [miss.to_json() for miss in self.misses],
            "steps": {name: verdict.value for name, verdict in self.steps.items()},
            "hidden": None if self.hidden is None else self.hidden.to_json(),
        }


def not_compared(reason: str) -> Comparison:
    """The comparison of a tick that cannot be compared."""
    return Comparison(kind=Kind.NOT_COMPARED, reason=reason)


def needs_reference(control: Observation, candidate: Observation, graph: Graph, misses: Sequence[Miss] = ()) -> bool:
    """Whether the control's own answer cannot judge the candidate's: it failed or gave up, and the two differ."""
    if candidate.outcome is not Outcome.DONE or control.is_whole:
        return False
    return control.outcome is not Outcome.DONE or bool(differences(control, candidate, graph, misses))


def judge(
    control: Observation,
    candidate: Observation,
    graph: Graph,
    *,
    reference: Observation | None = None,
    no_reference: str = "no reference was run",
    reference_missed: bool = False,
    misses: Sequence[Miss] = (),
    rules: Rules = no_rules,
) -> Comparison:
    """The comparison of a control and a candidate.

    reference: control run again from the tape with its limits lifted, where `needs_reference` asks for one;
    no_reference: why there is none. reference_missed: it called what no tape had, so that a difference from it
    proves nothing. misses: the candidate's calls that were not on the tape.
    """
    found = differences(control, candidate, graph, misses)
    if candidate.outcome is not Outcome.DONE:
        both = control.outcome is not Outcome.DONE
        return _compared(
            Kind.BOTH_FAILED if both else Kind.CANDIDATE_FAILED,
            f"control {control.outcome}, candidate {candidate.outcome}: {candidate.error or 'no error given'}",
            [] if both else _of_failure(found, control, candidate, graph),
            graph, control, candidate, misses,
        )  # fmt: skip
    if found and candidate.system is System.LEGACY and candidate.trouble and control.is_whole:
        # Retries are what the new system has and the old one has not: that it gave up is its failure, no difference.
        trouble = ", ".join(candidate.trouble)
        return _compared(
            Kind.CANDIDATE_FAILED, f"control {control.outcome}, candidate failed or gave up in {trouble}", found,
            graph, control, candidate, misses,
        )  # fmt: skip
    if not needs_reference(control, candidate, graph, misses):
        sifted = sift(found, rules)
        kept = sifted.kept
        kind = Kind.MISMATCH if kept else Kind.TOLERATED if sifted.tolerances else Kind.MATCH
        reason = _sentence(kept) if kept else "equal" if not found else "equal but for what rules tolerate"
        return _compared(
            kind, reason, kept, graph, control, candidate, misses, tolerances=sifted.tolerances,
            hidden=sifted.hidden(Kind.MISMATCH.value),
        )  # fmt: skip
    trouble = ", ".join(control.trouble) or control.error or "a late write of an earlier tick"
    if reference is None or reference.outcome is not Outcome.DONE:
        why = no_reference if reference is None else f"the reference {reference.outcome} too: {reference.error}"
        return _compared(
            Kind.UNVERIFIED, f"control {control.outcome}, trouble in {trouble}; {why}", [], graph, control, candidate,
            misses,
        )  # fmt: skip
    sifted = sift(differences(reference, candidate, graph, misses), rules)
    kept = sifted.kept
    if not kept:
        kind, reason = Kind.IMPROVED, f"control gave up or failed ({trouble}); the candidate equals the reference"
    elif reference_missed:
        kind, reason = Kind.UNVERIFIED, f"trouble in {trouble}; the reference made calls that are on no tape"
        kept = []
    else:
        kind, reason = Kind.MISMATCH, f"against the reference: {_sentence(kept)}"
    return _compared(
        kind, reason, kept, graph, reference, candidate, misses, against="reference", tolerances=sifted.tolerances,
        hidden=sifted.hidden((Kind.UNVERIFIED if reference_missed else Kind.MISMATCH).value),
    )  # fmt: skip


def _of_failure(
    found: Sequence[Difference], control: Observation, candidate: Observation, graph: Graph
) -> list[Difference]:
    """What a failed candidate is attributed to: what differed on the way to the step that failed, else that step,
    also where the control was in trouble there too and got away with it."""
    failed = next((step for step in graph.order if _status(candidate, step) is StepStatus.FAILED), None)
    if failed is None:
        return [difference for difference in found if difference.area is Area.STATUS] or list(found)
    before = graph.before(failed)
    on_the_way = [difference for difference in found if difference.step in before]
    own = [difference for difference in found if difference.step == failed and difference.area is Area.STATUS]
    change = status_change(_class(control.steps.get(failed, _NOT_THERE)), "failed", candidate.steps[failed].error)
    return on_the_way or own or [Difference(step=failed, area=Area.STATUS, change=change)]


def _status(seen: Observation, step: str) -> StepStatus | None:
    return seen.steps[step].status if step in seen.steps else None


def differences(
    control: Observation, candidate: Observation, graph: Graph, misses: Sequence[Miss] = ()
) -> list[Difference]:
    """All differences between two observations, in graph order, the state last; empty if they are equal."""
    whole = not control.visible or not candidate.visible
    control_effects, candidate_effects = _by_step(control, whole), _by_step(candidate, whole)
    if not whole:
        _settle(control_effects, candidate_effects)
    found: list[Difference] = []
    for step in () if whole else graph.order:
        loose = _is_loose(step, graph, candidate)
        for area, change in _step_changes(
            step, control, candidate, control_effects.get(step, []), candidate_effects.get(step, [])
        ):
            kept = by_form(change) if loose and area is not Area.STATUS else change
            if kept is not None:
                found.append(Difference(step=step, area=area, change=kept))
        for miss in misses:
            if miss.step == step and miss.why is None and not loose:
                found += [Difference(step=step, area=Area.CALLS, change=change) for change in miss.change()]
    for change in effect_changes(control_effects.get("", []), candidate_effects.get("", []), ordered=False):
        found.append(Difference(step=NO_STEP, area=Area.EFFECTS, change=change))
    if not found:
        found = [Difference(step=STATE, area=Area.STATE, change=change) for change in _state(control, candidate)]
    return found


def _is_loose(step: str, graph: Graph, candidate: Observation) -> bool:
    return bool(candidate.diverged) and not candidate.diverged.keys().isdisjoint({step, *graph.before(step)})


def _by_step(seen: Observation, whole: bool) -> dict[str, list[ObservedEffect]]:
    found: dict[str, list[ObservedEffect]] = {}
    for effect in seen.effects:
        found.setdefault("" if whole else effect.effect.step, []).append(effect)
    return found


def _settle(control: dict[str, list[ObservedEffect]], candidate: dict[str, list[ObservedEffect]]) -> None:
    """Give effects that one side emitted outside its steps to the step in which the other has the same one."""
    for one, other in ((control, candidate), (candidate, control)):
        rest: list[ObservedEffect] = []
        for item in one.pop("", []):
            name = _identity(item)
            home = next(
                (
                    step
                    for step, items in other.items()
                    if step
                    and Counter(map(_identity, items))[name] > Counter(map(_identity, one.get(step, [])))[name]
                ),
                None,
            )
            (rest if home is None else one.setdefault(home, [])).append(item)
        if rest:
            one[""] = rest


def _identity(item: ObservedEffect) -> str:
    return canonical_text([item.effect.kind, item.effect.payload])


def _step_changes(
    step: str,
    control: Observation,
    candidate: Observation,
    control_effects: list[ObservedEffect],
    candidate_effects: list[ObservedEffect],
) -> list[tuple[Area, Change]]:
    found: list[tuple[Area, Change]] = []
    if step in control.visible and step in candidate.visible:
        one = _seen(control, step, control_effects)
        two = _seen(candidate, step, candidate_effects)
        if _class(one) != _class(two):
            error = two.error if two.status in TROUBLE else None
            found.append((Area.STATUS, status_change(_class(one), _class(two), error)))
        elif one.status in RAN:
            found += [(Area.RESULT, change) for change in changes(one.result, two.result)]
    found += [(Area.EFFECTS, change) for change in effect_changes(control_effects, candidate_effects)]
    return found


_NOT_THERE = StepObservation(status=StepStatus.NOT_REACHED, attempts=0)


def _seen(observation: Observation, step: str, effects: list[ObservedEffect]) -> StepObservation:
    """The step as observed; one that returned nothing and did nothing did not apply."""
    seen = observation.steps.get(step, _NOT_THERE)
    if seen.status is StepStatus.DONE and seen.result is None and not effects:
        return replace(seen, status=StepStatus.NOT_APPLICABLE)
    return seen


def _class(step: StepObservation) -> str:
    return "ran" if step.status in RAN else "failed" if step.status in TROUBLE else "did not run"


def _state(control: Observation, candidate: Observation) -> tuple[Change, ...]:
    late = any(effect.late for effect in (*control.effects, *candidate.effects))
    if late or control.state_disturbed or candidate.state_disturbed:
        return ()
    if not control.is_whole or control.state_after is None or candidate.state_after is None:
        return ()
    found = changes(control.state_after, candidate.state_after)
    if candidate.diverged:
        return tuple(kept for change in found if (kept := by_form(change)) is not None)
    return found


def _sentence(found: Sequence[Difference]) -> str:
    first = found[0]
    more = f" and {len(found) - 1} more" if len(found) > 1 else ""
    return f"{first.step}: {first.where} ({first.change.nature}){more}"


def _compared(
    kind: Kind,
    reason: str,
    found: Sequence[Difference],
    graph: Graph,
    control: Observation,
    candidate: Observation,
    misses: Sequence[Miss],
    *,
    against: str = "control",
    tolerances: tuple[Tolerance, ...] = (),
    hidden: Hidden | None = None,
) -> Comparison:
    attributions = attribute(found, graph)
    roots, touched = {a.step for a in attributions}, {d.step for d in found}
    return Comparison(
        kind=kind,
        reason=reason,
        against=against,
        attributions=attributions,
        differences=tuple(found),
        tolerances=tolerances,
        misses=tuple(misses),
        steps={step: _step_verdict(step, control, candidate, roots, touched) for step in graph.order},
        hidden=hidden,
    )


def _step_verdict(
    step: str, control: Observation, candidate: Observation, roots: set[str], touched: set[str]
) -> StepVerdict:
    if step in roots:
        return StepVerdict.DIFFERS
    if step in touched:
        return StepVerdict.CONSEQUENCE
    if step not in control.visible or step not in candidate.visible:
        return StepVerdict.NOT_COMPARED
    found = {_class(side.steps.get(step, _NOT_THERE)) for side in (control, candidate)}
    if found == {"ran"}:
        return StepVerdict.EQUAL
    whole = control.outcome is Outcome.DONE and candidate.outcome is Outcome.DONE
    return StepVerdict.NOT_APPLICABLE if whole and "failed" not in found else StepVerdict.NOT_COMPARED
