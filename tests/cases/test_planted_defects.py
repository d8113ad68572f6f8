"""Defects planted in the being's port: each is found, and named by its step, as one finding; without one, nothing
is."""

from __future__ import annotations

import copy
import datetime as dt
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

import digital_being
from digital_being import steps
from digital_being.model_server import ModelServer, ModelSettings
from shadow.compare import Comparison, Kind, judge
from shadow.inline import InlineTick, run_inline
from shadow.misses import find_misses
from shadow.observation import Graph, Observation
from shadow.sides import from_legacy
from shadow.signature import Finding, Sighting, findings
from tickover import Effect, RetryPolicy, TickContext, Workflow
from tickover.boundary.child import LegacyProcess
from tickover.boundary.observation import LegacyRequest
from tickover.doors import client_of, forget_clients
from tickover.execution import ExecutionKey, Purpose, System
from tickover.tape import TapeEntry

PORT = digital_being.heavy_tick
# Enough for every occasional step to apply several times, and for a belief to be strengthened.
TICKS = 31
BEGUN = dt.datetime(2026, 3, 1, 12, 0, tzinfo=dt.UTC)


# Where the model of the recording is.
MODEL: dict[str, str] = {}


@dataclass(frozen=True)
class Recorded:
    """One tick of the control, ready to be followed."""

    control: Observation
    tape: tuple[TapeEntry, ...]
    state: Any


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Recorded]]:
    """Ticks of the unedited old system, recorded once, with the model that answers at once; the model stays."""
    server = ModelServer(ModelSettings.quick(malformed_rate=0.1)).start()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TICKOVER_MODEL_URL", server.url)
        home: Path = tmp_path_factory.mktemp("being") / "home"
        found = []
        with LegacyProcess("digital_being:heavy_tick", home, model_url=server.url) as process:
            process.write_state(PORT.start_state())
            for tick in range(TICKS):
                seen = process.run_tick(LegacyRequest(run="cases", tick=tick, started_at=BEGUN))
                control = from_legacy(seen, PORT, Purpose.CONTROL, BEGUN)
                found.append(Recorded(control=control, tape=seen.calls, state=seen.state_before))
        MODEL["url"] = server.url
        forget_clients()
        yield found
        client_of(PORT, "model").close()
        forget_clients()
        server.stop()


@pytest.fixture(autouse=True)
def model(recorded: list[Recorded], monkeypatch: pytest.MonkeyPatch) -> None:
    """A port that asks something else gets a live answer."""
    monkeypatch.setenv("TICKOVER_MODEL_URL", MODEL["url"])


def follow(workflow: Workflow, tick: Recorded) -> Comparison:
    """The comparison of a recorded tick with what a port makes of it."""
    key = ExecutionKey(run="cases", tick=tick.control.tick, system=System.ASYNC, purpose=Purpose.CANDIDATE)
    inline = InlineTick(tape=tick.tape, draws=tick.control.draws)
    candidate = run_inline(workflow, key, state=copy.deepcopy(tick.state), tick=inline, started_at=BEGUN)
    graph = Graph.of(workflow)
    misses = find_misses([*tick.tape, *inline.misses], tick.control, candidate, graph)
    return judge(tick.control, candidate, graph, misses=misses)


def found_in(workflow: Workflow, recorded: list[Recorded]) -> tuple[Finding, ...]:
    """What a run of this port would list."""
    sightings = []
    for tick in recorded:
        compared = follow(workflow, tick)
        for found in compared.attributions:
            sightings.append(
                Sighting(
                    step=found.step, signature=found.signature, kind=compared.kind.value, atoms=found.atoms, count=1,
                    first_tick=tick.control.tick, last_tick=tick.control.tick,
                )
            )  # fmt: skip
    return findings(sightings)


def with_step(name: str, **changes: Any) -> Workflow:
    """The port with one step changed."""
    return replace(PORT, steps=[replace(step, **changes) if step.name == name else step for step in PORT.steps])


def altered(name: str, alter: Callable[[TickContext, Any], Any]) -> Workflow:
    """The port with one step's result altered; what `alter` does to the context's effects counts too."""
    run = PORT.step(name).run

    def changed(context: TickContext) -> Any:
        return alter(context, copy.deepcopy(run(context)))

    return with_step(name, run=changed)


def effects_altered(name: str, alter: Callable[[list[Effect]], list[Effect]]) -> Workflow:
    """The port with what one step emits altered."""

    def change(context: TickContext, result: Any) -> Any:
        context._effects[:] = [
            replace(effect, number=number) for number, effect in enumerate(alter(list(context._effects)))
        ]
        return result

    return altered(name, change)


def payload_altered(name: str, kind: str, alter: Callable[[Any], Any]) -> Workflow:
    """The port with the payload of one kind of effect altered."""
    return effects_altered(
        name,
        lambda effects: [
            replace(effect, payload=alter(copy.deepcopy(effect.payload))) if effect.kind == kind else effect
            for effect in effects
        ],
    )


def _set(key: str, value: Callable[[Any], Any]) -> Callable[[TickContext, Any], Any]:
    return lambda context, result: {**result, key: value(result[key])}


def _swallows(context: TickContext) -> Any:
    try:
        return {"question": context.results["nobody"]}
    except Exception:  # noqa: BLE001 - the planted defect
        return {"question": ""}


def _stale_memories(context: TickContext) -> list[str]:
    return [memory["text"] for memory in context.state["memories"]][-20:]


def _on_stale_memories(context: TickContext) -> Any:
    texts = _stale_memories(context)
    steps.similar_texts(context, context.results["monologue"]["text"], texts)
    return steps.goal_selection(context)


def _forgetful_meta(context: TickContext) -> Any:
    lately = " ".join(episode["reflection"] for episode in context.state["episodes"][-3:])
    principle = steps.ask(context, f"Lately: {lately} Name one principle to live by.")
    context.emit("state.principles", {"text": principle, "weight": round(context.random.uniform(0.5, 1.0), 3)})
    return {"principle": principle}


def _belief_without_its_past(context: TickContext) -> Any:
    known = context.state["beliefs"]
    emptied = copy.deepcopy(context.state)
    emptied["beliefs"] = []
    context.state = emptied
    try:
        return steps.beliefs(context)
    finally:
        context.state = {**emptied, "beliefs": known}


def _wrong_default(context: TickContext) -> Any:
    found = {**steps.default_goal(context), "goal": "sleep"}
    context._effects[:] = [replace(effect, payload=found) for effect in context._effects]
    return found


def _energy_of_before(context: TickContext) -> Any:
    thought = dict(context.results["monologue"])
    context.results = {**context.results, "monologue": {**thought, "energy": context.state["emotions"]["energy"]}}  # type: ignore[assignment]
    return steps.goal_selection(context)


def _one_try_too_many(context: TickContext) -> Any:
    for _ in range(2):  # range(1) was meant
        found = steps.curiosity(context)
        context._effects[:] = context._effects[-1:]
    context._effects[:] = [replace(effect, number=0) for effect in context._effects]
    return found


def _no_goal(_: TickContext) -> Any:
    raise ValueError("the answer names no goal")


DEFECTS: dict[str, tuple[Workflow, str]] = {
    "effect dropped": (effects_altered("action", lambda e: [x for x in e if x.kind != "notes"]), "action"),
    "effect doubled": (effects_altered("social", lambda e: [*e, *e]), "social"),
    "one try too many": (with_step("curiosity", run=_one_try_too_many), "curiosity"),
    "effect with a wrong field": (
        payload_altered("action", "memories", lambda p: {**p, "kind": "monologue"}), "action",
    ),
    "values swapped": (
        altered("monologue", lambda c, r: {**r, "text": r["mood"], "mood": r["text"]}), "monologue",
    ),
    "text truncated": (altered("curiosity", _set("question", lambda text: text[:10])), "curiosity"),
    "number rounded": (altered("monologue", _set("energy", lambda energy: round(energy, 1))), "monologue"),
    "number retyped": (altered("goal_selection", _set("priority", float)), "goal_selection"),
    "number as text": (
        payload_altered("beliefs", "beliefs", lambda p: {**p, "confidence": str(p["confidence"])}), "beliefs",
    ),
    "null where noise is expected": (altered("goal_selection", _set("id", lambda _: None)), "goal_selection"),
    "constant where noise is expected": (altered("monologue", _set("mood", lambda _: "calm")), "monologue"),
    "constant identifier": (
        payload_altered("social", "letters", lambda p: {**p, "id": "00000000-0000-4000-8000-000000000000"}), "social",
    ),
    "stale state": (with_step("goal_selection", run=_energy_of_before), "goal_selection"),
    "a needed step's write not seen: memories": (
        with_step("goal_selection", run=_on_stale_memories), "goal_selection",
    ),
    "a needed step's write not seen: episodes": (with_step("meta", run=_forgetful_meta), "meta"),
    "its own earlier write not seen: beliefs": (with_step("beliefs", run=_belief_without_its_past), "beliefs"),
    "an optional step missing": (with_step("social", when=lambda context: False), "social"),
    "a step on too few ticks": (with_step("curiosity", when=lambda context: context.tick % 4 == 0), "curiosity"),
    "wrong fallback": (with_step("goal_selection", fallback=_wrong_default), "goal_selection"),
    "always the fallback": (with_step("goal_selection", run=_no_goal), "goal_selection"),
    "wrong time zone": (
        payload_altered("social", "letters", lambda p: {**p, "at": p["at"] + "+02:00"}), "social",
    ),
    "wrong instant": (
        altered(
            "goal_selection",
            _set("at", lambda at: (dt.datetime.fromisoformat(at) + dt.timedelta(hours=1)).isoformat())),
        "goal_selection",
    ),
    "wrong encoding": (
        payload_altered("action", "notes", lambda p: {**p, "text": p["text"].encode().decode("latin-1")}), "action",
    ),
    "escaped text": (
        altered("action", _set("note", lambda text: text.encode("ascii", "backslashreplace").decode())), "action",
    ),
    "right but late": (with_step("social", retry=RetryPolicy(attempts=1), timeout_s=1e-9), "social"),
    "hidden dependency": (
        altered("curiosity", lambda c, r: {"question": c.results["beliefs"]["believed"]}), "curiosity",
    ),
    "an error swallowed": (with_step("curiosity", run=_swallows), "curiosity"),
    "a key too many": (altered("meta", lambda c, r: {**r, "debug": True}), "meta"),
}  # fmt: skip


def test_without_a_defect_nothing_differs(recorded: list[Recorded]) -> None:
    """The port as it is: every tick matches."""
    assert {follow(PORT, tick).kind for tick in recorded} == {Kind.MATCH}


@pytest.mark.parametrize("name", DEFECTS)
def test_a_planted_defect_is_one_finding_of_its_step(recorded: list[Recorded], name: str) -> None:
    """The defect shows, and what is listed is one finding, in the step in which it was planted."""
    workflow, step = DEFECTS[name]
    assert [found.step for found in found_in(workflow, recorded)] == [step]
