"""What the database counts for a report, against a full recount of the stored comparisons in Python."""

from __future__ import annotations

import json
import math
import random
from collections import Counter
from typing import Any

import pytest
from sqlalchemy import text

from reports.aggregates import Aggregates
from reports.lifting import ticks_by_rule
from shadow.compare import Kind
from shadow.store import Store
from tests.integration.report_samples import TickSample, make_run, random_tick
from tickover.canonical import canonical_text
from tickover.ground.database import engine

LETTERS = {"equal": "E", "differs": "D", "consequence": "C", "not_applicable": "N", "not_compared": "-"}


@pytest.fixture
def store(database: str) -> Store:
    return Store(engine(database))


def _comparisons(store: Store, run: str) -> list[dict[str, Any]]:
    with store.engine.connect() as connection:
        rows = connection.execute(
            text("SELECT * FROM shadow_comparisons WHERE run = :run ORDER BY tick"), {"run": run}
        )
        return [dict(row) for row in rows.mappings()]


def _durations(row: dict[str, Any]) -> tuple[float, float]:
    old = row["control_ms"] if row["control_outcome"] == "done" else math.inf
    if row["control_outcome"] is None:
        old = 0.0
    new = row["candidate_ms"] if row["candidate_outcome"] == "done" else math.inf
    return old, new


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_counts_equal_a_full_recount(store: Store, seed: int) -> None:
    """Groups, limits, blocks, ranks and episodes of random runs equal what Python counts from each comparison, and
    a second run in the same tables changes nothing."""
    source = random.Random(seed)
    make_run(store, "other", [random_tick(source) for _ in range(40)])
    make_run(store, "run", [random_tick(source) for _ in range(source.randint(150, 260))])
    rows, counted = _comparisons(store, "run"), Aggregates(store.engine, "run")

    def letters(row: dict[str, Any]) -> str:
        return "".join(LETTERS[found[0]] for _, found in sorted(json.loads(row["steps"]).items()))

    def names(row: dict[str, Any]) -> tuple[str, ...]:
        return tuple(sorted({each["rule"] for each in json.loads(row["document"])["tolerances"]}))

    def hid(row: dict[str, Any]) -> str | None:
        """What rules hid; of a comparison that does not say where, the tick as a whole."""
        document = json.loads(row["document"])
        rules = list(names(row))
        if document["hidden"] is None and (document["kind"] not in ("tolerated", "improved") or not rules):
            return None
        whole = {"kind": "mismatch", "steps": {"(no attribution)": {"rules": rules}}}
        return canonical_text(document["hidden"] or whole)

    expected = Counter(
        (
            row["kind"], row["stratum"], row["control_outcome"], row["candidate_outcome"], row["control_gave_up"],
            row["candidate_gave_up"], letters(row), hid(row), names(row),
        )
        for row in rows
    )  # fmt: skip
    found = {
        (
            g.kind,
            g.stratum,
            g.control_outcome,
            g.candidate_outcome,
            g.control_gave_up,
            g.candidate_gave_up,
            g.steps,
            g.hidden and canonical_text(json.loads(g.hidden)),
            tuple(sorted(g.rules or ())),
        ): (g.count)
        for g in counted.groups()
    }
    assert found == dict(expected)

    pairs = [_durations(row) for row in rows]
    slower = [new > 1.1 * old + 5 for old, new in pairs]
    limits = counted.exceeding([(1.1, 5), (0, 200)])
    known = [row["candidate_outcome"] is not None for row in rows]
    assert limits.n == sum(known)
    assert limits.exceed == (
        sum(slow for slow, is_known in zip(slower, known, strict=True) if is_known),
        sum(new > 200 for (_, new), is_known in zip(pairs, known, strict=True) if is_known),
    )
    blocks = [slower[first : first + 20] for first in range(0, len(rows) - len(rows) % 20, 20)]
    assert counted.block_means(20, 1.1, 5) == dict(Counter(sum(block) / 20 for block in blocks))
    for side, values in (("control", sorted(p[0] for p in pairs)), ("candidate", sorted(p[1] for p in pairs))):
        ranks = [1, len(rows) // 2, len(rows) - 3, len(rows)]
        assert counted.ordered(side, ranks, len(rows)) == [values[rank - 1] for rank in ranks]

    bad = [row["tick"] for row in rows if row["kind"] in ("mismatch", "candidate_failed")]
    episodes = [[bad[0]]]
    for tick in bad[1:]:
        if tick - episodes[-1][-1] <= 5:
            episodes[-1].append(tick)
        else:
            episodes.append([tick])
    streak = longest = 0
    for tick in range(len(rows)):
        streak = streak + 1 if tick in bad else 0
        longest = max(longest, streak)
    summary = counted.episodes(["mismatch", "candidate_failed"], 5)
    assert (summary.count, summary.longest_streak) == (len(episodes), longest)
    largest = sorted(episodes, key=lambda ticks: (-len(ticks), ticks[0]))[:5]
    assert [(e.first_tick, e.last_tick, e.count) for e in summary.largest] == [
        (ticks[0], ticks[-1], len(ticks)) for ticks in largest
    ]
    hours = counted.hours(["mismatch", "candidate_failed"], 60)
    assert (sum(hour.count for hour in hours), sum(hour.bad for hour in hours)) == (len(rows), len(bad))
    hidden = Counter(each["rule"] for row in rows for each in json.loads(row["document"])["tolerances"])
    assert ticks_by_rule(counted.groups()) == dict(hidden) != {}
    spans = counted.spans(10)
    assert sum(span.count for span in spans) == len(rows) and spans[-1].last_tick == len(rows) - 1
    by_span = counted.groups_by_span([span.last_tick for span in spans])
    assert [sum(group.count for group in groups) for groups in by_span] == [span.count for span in spans]


def test_evidence_follows_a_comparison_that_is_changed_or_removed(store: Store) -> None:
    """An update and a delete of comparisons change the counts in the same transaction."""
    make_run(store, "run", [TickSample()] * 5)
    with store.engine.begin() as connection:
        connection.execute(text("UPDATE shadow_comparisons SET kind = 'mismatch' WHERE tick = 3"))
        connection.execute(text("DELETE FROM shadow_comparisons WHERE tick = 4"))
    groups = Aggregates(store.engine, "run").groups()
    assert {group.kind: group.count for group in groups} == {"match": 4 - 1, "mismatch": 1}


def test_an_empty_run_is_counted_as_nothing(store: Store) -> None:
    """No query fails, and none makes something of nothing."""
    make_run(store, "run", [])
    counted = Aggregates(store.engine, "run")
    assert counted.groups() == counted.hours(["mismatch"], 60) == counted.spans(5) == counted.ratios([0.5]) == []
    assert counted.exceeding([(1.1, 0)]).n == 0
    assert counted.block_means(60, 1.1, 0) == {}
    assert counted.episodes(["mismatch"], 5).count == 0


def test_a_tick_on_which_a_side_did_not_end_well_is_slower_than_any_limit(store: Store) -> None:
    """A failed or lost tick is censored, not dropped: it exceeds every limit, and a lost control excuses the
    candidate only where the candidate did end."""
    from shadow.observation import Outcome

    make_run(
        store, "run",
        [
            TickSample(kind=Kind.CANDIDATE_FAILED, candidate=Outcome.LOST, candidate_ms=1, differs="act"),
            TickSample(kind=Kind.IMPROVED, control=Outcome.FAILED, control_ms=1, candidate_ms=500),
        ],
    )  # fmt: skip
    assert Aggregates(store.engine, "run").exceeding([(1.1, 0), (0, 1e9), (0, 400)]).exceed == (1, 1, 2)
