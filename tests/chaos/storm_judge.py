"""The judge of a storm: each promise about ticks, owners, state and effects, held against what really happened."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.chaos.storm_job import START, after
from tests.chaos.storm_journal import read_journal

Entry = dict[str, Any]


@dataclass(kw_only=True)
class Verdict:
    """What a storm came to; violations: broken promises, empty if all were kept."""

    violations: list[str] = field(default_factory=list)
    moves: int = 0
    ticks: Counter[str] = field(default_factory=Counter)
    repeated_deliveries: int = 0
    fenced: int = 0

    def that(self, kept: bool, broken: str) -> None:
        """Enter a violation unless the promise was kept."""
        if not kept:
            self.violations.append(broken)


def judge(do: Any, run: str, ledger: str, home: Path, *, drained: bool) -> Verdict:
    """The verdict on a run. do: a cursor. ledger: what the job entered. drained: nothing runs any more, the
    old system is in charge, and all was delivered."""
    verdict, journal = Verdict(), read_journal(do)
    do.execute(
        "SELECT tick, owner, epoch, outcome, adopted_at IS NOT NULL FROM ticks WHERE run = %s ORDER BY 1", (run,)
    )
    ticks = do.fetchall()
    do.execute("SELECT tick, document FROM states WHERE run = %s ORDER BY 1", (run,))
    states = {tick: json.loads(document) for tick, document in do.fetchall()}
    do.execute("SELECT tick, key, delivered_at IS NOT NULL FROM outbox WHERE run = %s ORDER BY id", (run,))
    outbox = do.fetchall()
    lines = [line.split()[1:] for line in ledger.splitlines()]
    _judge_moves(journal, verdict)
    _judge_owners(journal, verdict)
    _judge_ticks(ticks, states, journal, verdict, drained)
    _judge_old_system(ticks, lines, verdict)
    _judge_deliveries(run, outbox, lines, verdict, drained)
    if drained and states:
        store = json.loads((home / "store.json").read_text())
        verdict.that(
            store == states[max(states)], f"the old system's store is {store}, and not {states[max(states)]}"
        )
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
    ticks: list[tuple[Any, ...]], states: dict[int, Any], journal: list[Entry], verdict: Verdict, drained: bool
) -> None:
    """None is missing; each state holds all that came before; a lost one was cut off by a fault of its own."""
    numbers = [row[0] for row in ticks]
    verdict.that(numbers == list(range(len(numbers))), "ticks are missing")
    over = [row for row in ticks if row[4]]
    verdict.that(not drained or len(over) == len(ticks), "the last tick was not ended")
    verdict.that(sorted(states) == [row[0] for row in over], "ticks without a state, or states without a tick")
    before, lost = START, []
    for tick, owner, _, outcome, _ in over:
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
    first: dict[int, int] = {}
    end: dict[int, int] = {}
    for entry in journal:
        if entry["what"] == "claimed":
            first.setdefault(entry["tick"], entry["seq"])
        elif entry["what"] == "adopted":
            end[entry["tick"]] = entry["seq"]
    begun: dict[str, int] = {}
    spans: list[tuple[int, float]] = []
    for entry in journal:
        if entry["what"] == "fault begins":
            begun[entry["detail"]] = entry["seq"]
        elif entry["what"] == "fault ends":
            spans.append((begun.pop(entry["detail"]), entry["seq"]))
    spans += [(seq, float("inf")) for seq in begun.values()]
    for tick in lost:
        cut = [span for span in spans if span[0] < end[tick] and span[1] > first[tick]]
        verdict.that(bool(cut), f"tick {tick} is lost, and nothing had cut it off")
    verdict.that(len(lost) <= len(spans), f"{len(lost)} ticks are lost by {len(spans)} faults")


def _judge_old_system(ticks: list[tuple[Any, ...]], lines: list[list[str]], verdict: Verdict) -> None:
    """The old system begins none but its own ticks, each once, one after another, and ends what counts as done."""
    begun = Counter(int(line[1]) for line in lines if line[0] == "legacy" and line[2] == "begins")
    ended = Counter(int(line[1]) for line in lines if line[0] == "legacy" and line[2] == "ends")
    for tick, count in begun.items():
        verdict.that(count == 1, f"the old system ran tick {tick} {count} times")
    for tick, owner, _, outcome, _ in ticks:
        if owner == "async":
            verdict.that(tick not in begun, f"tick {tick} had two owners: the old system ran it too")
        elif outcome == "done":
            verdict.that(ended[tick] == 1, f"tick {tick} counts as done, and the old system did not end it")
    running = -1
    for line in lines:
        if line[0] != "legacy":
            continue
        verdict.that(int(line[1]) >= running, f"the old system ran tick {line[1]} after {running}")
        running = int(line[1])


def _judge_deliveries(
    run: str, outbox: list[tuple[Any, ...]], lines: list[list[str]], verdict: Verdict, drained: bool
) -> None:
    """What was adopted reaches the receiver, which knows a repetition by its key, and nothing else does."""
    received = [line[2] for line in lines if line[0] == "delivered"]
    wanted = [f"{run}/{key}" for _, key, _ in outbox]
    verdict.that(len(set(wanted)) == len(wanted), "two effects have one key")
    verdict.that(set(received) <= set(wanted), f"delivered, and not adopted: {set(received) - set(wanted)}")
    known = list(dict.fromkeys(received))
    verdict.that(known == wanted[: len(known)], "effects were delivered out of order")
    verdict.repeated_deliveries = len(received) - len(known)
    if drained:
        verdict.that(len(known) == len(wanted), f"{len(wanted) - len(known)} effects were never delivered")
        verdict.that(all(row[2] for row in outbox), "effects still wait for delivery")
