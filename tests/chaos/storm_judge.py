"""The judge of a storm: each promise about ticks, owners, state and effects, held against what really happened."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from shadow.history import Checked, Expected, check
from shadow.ledger import Note, Notebook, read_history
from tests.chaos.storm_job import RUN, START, after
from tests.chaos.storm_journal import read_journal

Entry = dict[str, Any]


@dataclass(kw_only=True)
class Verdict:
    """What a storm came to; violations: broken promises, empty if all were kept. checked: the history checker's."""

    violations: list[str] = field(default_factory=list)
    moves: int = 0
    ticks: Counter[str] = field(default_factory=Counter)
    repeated_deliveries: int = 0
    fenced: int = 0
    checked: Checked | None = None

    def that(self, kept: bool, broken: str) -> None:
        """Enter a violation unless the promise was kept."""
        if not kept:
            self.violations.append(broken)


def judge(do: Any, url: str, notebook: Notebook, told: list[Note], home: Path) -> Verdict:
    """The verdict on a run that is over: nothing runs any more, the old system is in charge, all was delivered.

    do: a cursor, in the database at `url`. notebook: the job's. told: what whoever watched the loops was told.
    """
    verdict, journal, notes = Verdict(), read_journal(do), notebook.read()
    do.execute("SELECT tick, owner, outcome, adopted_at IS NOT NULL FROM ticks WHERE run = %s ORDER BY 1", (RUN,))
    ticks = do.fetchall()
    do.execute("SELECT tick, document FROM states WHERE run = %s ORDER BY 1", (RUN,))
    states = {tick: json.loads(document) for tick, document in do.fetchall()}
    do.execute("SELECT key, delivered_at IS NOT NULL FROM outbox WHERE run = %s ORDER BY id", (RUN,))
    outbox = do.fetchall()
    _judge_moves(journal, verdict)
    _judge_owners(journal, verdict)
    _judge_ticks(ticks, states, journal, verdict)
    _judge_old_system(ticks, notes, verdict)
    _judge_deliveries(outbox, notes, verdict)
    store = json.loads((home / "store.json").read_text())
    verdict.that(store == states[max(states)], f"the old system's store is {store}, and not {states[max(states)]}")
    expected = Expected(
        run=RUN, ticks=frozenset(range(len(ticks))), outcomes=frozenset({"done", "lost"}), effects={"enter": 1},
        receives=lambda kind: True, legacy_notes=True,
    )  # fmt: skip
    history = read_history(url, [notebook])
    verdict.checked = check(dataclasses.replace(history, notes=(*history.notes, *told)), [expected])
    return verdict


def _judge_moves(journal: list[Entry], verdict: Verdict) -> None:
    """Each epoch follows the one before, and no committed hold was overrun."""
    epoch, holds = 1, 0
    for entry in journal:
        if entry["what"] != "route":
            continue
        if entry["epoch"] != epoch:
            verdict.moves += 1
            verdict.that(entry["epoch"] == epoch + 1, f"epoch {entry['epoch']} came after {epoch}")
            verdict.that(entry["owner"] == "legacy" or holds == 0, f"epoch {entry['epoch']} moved over {holds} holds")
        epoch, holds = entry["epoch"], entry["holds"]


def _judge_owners(journal: list[Entry], verdict: Verdict) -> None:
    """Who claimed a tick was in charge, and nobody wrote under an older epoch than the route's."""
    in_charge = {1: "legacy"}
    claims: dict[int, list[Entry]] = defaultdict(list)
    for entry in journal:
        tick, owner, epoch = entry["tick"], entry["owner"], entry["epoch"]
        if entry["what"] == "route":
            in_charge[epoch] = owner
        elif entry["what"] == "claimed":
            before = claims[tick]
            verdict.that(
                epoch == entry["route_epoch"], f"tick {tick} was claimed under epoch {epoch} of another time"
            )
            if before and before[-1]["owner"] == "legacy":
                verdict.that(owner == "legacy", f"tick {tick} was the old system's, and then the new one's")
                verdict.that(
                    before[-1]["backend"] != entry["backend"],
                    f"the route moved to epoch {epoch} while the old system ran tick {tick}",
                )
            else:
                verdict.that(owner == in_charge[epoch], f"tick {tick}: {owner} was not in charge in epoch {epoch}")
                verdict.fenced += bool(before) and owner != before[-1]["owner"]
            before.append(entry)
        elif entry["what"] in ("adopted", "commits"):
            verdict.that(
                epoch == entry["route_epoch"],
                f"tick {tick} of epoch {epoch} was written ({entry['what']}) in epoch {entry['route_epoch']}",
            )
    once = Counter(entry["tick"] for entry in journal if entry["what"] == "adopted")
    verdict.that(all(count == 1 for count in once.values()), f"adopted more than once: {once.most_common(3)}")


def _judge_ticks(
    ticks: list[tuple[Any, ...]], states: dict[int, Any], journal: list[Entry], verdict: Verdict
) -> None:
    """None is missing; each state holds all that came before; a lost one was cut off by a fault of its own."""
    numbers = [row[0] for row in ticks]
    verdict.that(numbers == list(range(len(numbers))), "ticks are missing")
    verdict.that(all(row[3] for row in ticks), "a tick was not ended")
    verdict.that(sorted(states) == numbers, "ticks without a state, or states without a tick")
    before, lost = START, []
    for tick, owner, outcome, _ in ticks:
        verdict.ticks[f"{owner} {outcome}"] += 1
        wanted = [after(before, tick, owner)]
        if (owner, outcome) == ("legacy", "lost"):
            lost.append(tick)
            wanted.append(before)
        else:
            verdict.that(outcome == "done", f"tick {tick} of {owner} ended {outcome}")
        state = states.get(tick, before)
        verdict.that(state in wanted, f"tick {tick} of {owner} does not continue the state before it: {state}")
        before = state
    _judge_lost(lost, journal, verdict)


def _judge_lost(lost: list[int], journal: list[Entry], verdict: Verdict) -> None:
    """Each lost tick was cut off by a fault of loop, old system or session that befell it and no other tick."""
    first: dict[int, int] = {}
    end: dict[int, int] = {}
    begun: dict[str, int] = {}
    spans: list[tuple[int, float]] = []
    for entry in journal:
        if entry["what"] == "claimed":
            first.setdefault(entry["tick"], entry["seq"])
        elif entry["what"] == "adopted":
            end[entry["tick"]] = entry["seq"]
        elif entry["what"] == "fault begins" and entry["detail"].startswith(("loop", "legacy", "session")):
            begun[entry["detail"]] = entry["seq"]
        elif entry["what"] == "fault ends" and entry["detail"] in begun:
            spans.append((begun.pop(entry["detail"]), entry["seq"]))
    spans = sorted([*spans, *((seq, float("inf")) for seq in begun.values())], key=lambda span: span[1])
    for tick in lost:
        cut = next((span for span in spans if span[0] < end[tick] and span[1] > first[tick]), None)
        verdict.that(cut is not None, f"tick {tick} is lost, and nothing had cut it off")
        if cut is not None:
            spans.remove(cut)


def _judge_old_system(ticks: list[tuple[Any, ...]], notes: list[Note], verdict: Verdict) -> None:
    """The old system begins none but its own ticks, each once, one after another, and ends what counts as done."""
    begun = Counter(note.tick for note in notes if note.kind == "legacy-began")
    ended = Counter(note.tick for note in notes if note.kind == "legacy-ended")
    for tick, count in begun.items():
        verdict.that(count == 1, f"the old system ran tick {tick} {count} times")
    for tick, owner, outcome, _ in ticks:
        if owner == "async":
            verdict.that(tick not in begun, f"tick {tick} had two owners: the old system ran it too")
        elif outcome == "done":
            verdict.that(ended[tick] == 1, f"tick {tick} counts as done, and the old system did not end it")
    running = -1
    for note in notes:
        if note.tick is not None:
            verdict.that(note.tick >= running, f"the old system ran tick {note.tick} after {running}")
            running = note.tick


def _judge_deliveries(outbox: list[tuple[Any, ...]], notes: list[Note], verdict: Verdict) -> None:
    """What was adopted reaches the receiver in order, who knows a repetition by its key, and nothing else does."""
    received = [note.key for note in notes if note.kind == "delivered"]
    wanted = [f"{RUN}/{key}" for key, _ in outbox]
    verdict.that(len(set(wanted)) == len(wanted), "two effects have one key")
    known = list(dict.fromkeys(received))
    verdict.that(known == wanted, f"{len(known)} effects arrived in their order, and {len(wanted)} were adopted")
    verdict.that(all(row[1] for row in outbox), "effects still wait for delivery")
    verdict.repeated_deliveries = len(received) - len(known)
