"""A trial for people: what the fault did in each system, event by event."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from sqlalchemy import Engine

from shadow.drill_store import DrillStore
from tickover.errors import ConfigurationError

_SAID = {
    "started": "the tick is started",
    "entered": "{step} begins, attempt {attempt}",
    "struck": "FAULT {kind} in {step}",
    "given_back": "{step} is given back: {reason}",
    "committed": "{step} is {status}",
}
_REFUSED = {
    "given_back": "{step} was lost before: what it says is refused",
    "committed": "{step}: REFUSED, for it was lost before",
}


def trial_document(engine: Engine, drill: str, trial: int) -> dict[str, Any] | None:
    """A trial as a JSON document; None if there is no drill of that name. Raises ConfigurationError for a number that
    the drill does not have, or has not done."""
    store = DrillStore(engine)
    if not store.exists(drill):
        return None
    found = {each.trial: each for each in store.trials(drill)}
    if trial not in found:
        raise ConfigurationError(f"drill {drill} has not begun a trial {trial}; it has begun {len(found)} of them")
    record = found[trial]
    return {
        "drill": drill, "run": store.drill(drill).run, "trial": trial, "kind": record.kind, "step": record.step,
        "tick": record.tick, "seed": record.seed, "first": record.first,
        "systems": {system.value: side for system, side in sorted(record.sides.items())},
    }  # fmt: skip


def trial_lines(trial: Mapping[str, Any]) -> Iterator[str]:
    """The lines that show a trial: per system its facts, and its timeline in seconds around the fault."""
    where = f"{trial['kind']} in step {trial['step']} of tick {trial['tick']}"
    yield f"trial {trial['trial']} of {trial['drill']}: {where}"
    if not trial["systems"]:
        yield "  it was begun and never ended; `tickover drill --resume` ends it"
    for system, side in trial["systems"].items():
        facts = side["facts"]
        yield ""
        yield f"{system}: {'recovered' if facts['recovered'] else 'did not recover'} – {facts['reason']}"
        yield (
            f"  outcome {facts['outcome']}, steps run again {facts['again']}, effects lost {facts['lost']}, doubled "
            f"{facts['doubled']}, half done {facts['half_done']}, late {facts['late']}, stale commits refused "
            f"{facts['refused']} and accepted {facts['stale']}"
        )
        yield from _timeline(side["ledger"])


def _timeline(ledger: list[dict[str, Any]]) -> Iterator[str]:
    struck = next((event["at"] for event in ledger if event["event"] == "struck"), None)
    zero = struck if struck is not None else ledger[0]["at"] if ledger else 0.0
    for event in sorted(ledger, key=lambda event: event["at"]):
        said = _REFUSED if event.get("accepted") is False else _SAID
        if event["event"] in said:
            text = said[event["event"]].format_map(event)
            yield f"  {event['at'] - zero:+9.3f} s  process {event['pid']:<8} {text}"
