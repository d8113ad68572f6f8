"""All SQL of evidence: counts that the database makes of one narrow row a tick, so that a report over a million
ticks reads a few hundred rows."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Engine, text

# The duration of a tick that did not end well is above every limit: it is censored, never dropped. One that is not
# known at all is the worst case: the candidate's above every limit, the control's below.
_OLD = (
    "CASE WHEN control_outcome = 'done' THEN least(control_ms, 1e15) WHEN control_outcome IS NULL THEN 0 "
    "ELSE 'Infinity' END"
)
NEW_MS = "CASE WHEN candidate_outcome = 'done' THEN least(candidate_ms, 1e15) ELSE 'Infinity' END"

# Between a nanosecond and thirty thousand years, so that no quotient leaves the range of numbers.
_RATIO = "least(greatest(candidate_ms, 1e-6), 1e15) / least(greatest(control_ms, 1e-6), 1e15)"
_WHICH = "run = :run"
# What ticks have in common that are counted together.
_ALIKE = "kind, stratum, control_outcome, candidate_outcome, control_gave_up, candidate_gave_up, steps, hidden, rules"
_BOTH = "control_outcome = 'done' AND candidate_outcome = 'done'"


@dataclass(frozen=True, kw_only=True, slots=True)
class Group:
    """All ticks that are alike in what is counted; immutable.

    steps: a letter for each step, steps in the order of their bytes: E equal, D differs, C consequence, N not
    applicable, - not compared; empty where nothing was compared. hidden: what rules hid, as `shadow.hidden.Hidden`
    writes it; None if nothing. rules: the names of those that hid something, also of ticks from before `hidden`.
    """

    kind: str
    stratum: str | None
    control_outcome: str | None
    candidate_outcome: str | None
    control_gave_up: bool
    candidate_gave_up: bool
    steps: str
    count: int
    hidden: str | None = None
    rules: Sequence[str] | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Slower:
    """How many ticks of the candidate exceed a limit, of how many; immutable."""

    n: int
    exceed: tuple[int, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Hour:
    """The ticks that were compared within an hour of the clock; immutable. covered_s: seconds that they span."""

    begins: dt.datetime
    count: int
    bad: int
    covered_s: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Episode:
    """Ticks that count against the candidate, with no long gap between them; immutable."""

    first_tick: int
    last_tick: int
    count: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Episodes:
    """The episodes of a run; immutable. longest_streak: most such ticks in a row."""

    count: int
    longest_streak: int
    largest: tuple[Episode, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Span:
    """A stretch of a run for a curve over time; immutable. ratios: 10th, 50th and 90th percentile of
    candidate / control; None where no tick ended well in both."""

    last_tick: int
    count: int
    ratios: tuple[float, ...] | None


@dataclass(frozen=True, kw_only=True, slots=True)
class TickRow:
    """A tick as a list behind a figure shows it; immutable."""

    tick: int
    kind: str
    reason: str
    control_ms: float | None
    candidate_ms: float | None


class Aggregates:
    """The evidence of one run as the database counts it. snapshot: the name of one, so that counts made over several
    connections are of one instant; None: each of its own."""

    def __init__(self, engine: Engine, run: str, snapshot: str | None = None) -> None:
        self.engine, self.run, self._snapshot = engine, run, snapshot

    def groups(self) -> list[Group]:
        """The ticks, alike ones counted together."""
        rows = self._rows(
            f"SELECT {_ALIKE}, count(*) AS count FROM tick_evidence WHERE {_WHICH} "
            f"GROUP BY {_ALIKE} ORDER BY {_ALIKE}"
        )
        return [Group(**row) for row in rows]

    def exceeding(self, limits: Sequence[tuple[float, float]]) -> Slower:
        """How many ticks of those whose candidate is known exceed `factor * control + extra_ms`, for each (factor,
        extra_ms); factor 0 asks for a fixed limit."""
        filters = ", ".join(f"count(*) FILTER (WHERE {_slower(index)}) AS c{index}" for index in range(len(limits)))
        row = self._rows(
            f"SELECT count(*) AS n{', ' if filters else ''}{filters} FROM tick_evidence WHERE {_WHICH} "
            "AND candidate_outcome IS NOT NULL",
            _limits(limits),
        )[0]
        return Slower(n=row["n"], exceed=tuple(row[f"c{index}"] for index in range(len(limits))))

    def block_means(self, size: int, factor: float, extra_ms: float) -> dict[float, int]:
        """Shares of ticks that exceed `factor * control + extra_ms`, per complete block of `size` ticks: share ->
        number of blocks."""
        rows = self._rows(
            f"SELECT slower, count(*) AS blocks FROM (SELECT count(*) AS n, count(*) FILTER (WHERE {_slower(0)}) "
            f"AS slower FROM tick_evidence WHERE {_WHICH} GROUP BY tick / :size) AS block WHERE n = :size "
            "GROUP BY slower ORDER BY slower",
            {"size": size} | _limits([(factor, extra_ms)]),
        )
        return {row["slower"] / size: row["blocks"] for row in rows}

    def ordered(self, side: str, ranks: Sequence[int], n: int) -> list[float]:
        """The durations of a side ("control" or "candidate") at these ranks, from 1, of n ticks, in milliseconds."""
        if not ranks or not n:
            return []
        value = _OLD if side == "control" else NEW_MS
        row = self._rows(
            f"SELECT percentile_disc(CAST(:shares AS double precision[])) WITHIN GROUP (ORDER BY {value}) AS found "
            f"FROM tick_evidence WHERE {_WHICH}",
            {"shares": [(rank - 0.5) / n for rank in ranks]},
        )[0]
        return [float(found) for found in row["found"]]

    def ratios(self, shares: Sequence[float]) -> list[float]:
        """The ratio candidate / control at these shares of the ticks on which both ended well."""
        row = self._rows(
            "SELECT percentile_disc(CAST(:shares AS double precision[])) WITHIN GROUP "
            f"(ORDER BY {_RATIO}) AS found FROM tick_evidence WHERE {_WHICH} AND {_BOTH}",
            {"shares": list(shares)},
        )[0]
        return [float(found) for found in row["found"] or []]

    def hours(self, bad: Sequence[str], interval_s: float) -> list[Hour]:
        """The hours in which ticks were compared; `bad` are the kinds to count apart. interval_s: from tick to tick.

        A pause covers nothing: ticks cover an interval each, or, back to back, the span between the first and the
        last of them within ten minutes.
        """
        size_s, covered = max(3600.0, interval_s), "least(:size, count * :interval)"
        if not interval_s:
            size_s, covered = 600.0, "least(:size, CASE WHEN count > 1 THEN span_s * count / (count - 1) ELSE 0 END)"
        rows = self._rows(
            "WITH stretch AS (SELECT date_bin(make_interval(secs => :size), compared_at, '2000-01-01') AS number, "
            "min(compared_at) AS begins, count(*) AS count, count(*) FILTER (WHERE kind = ANY(:bad)) AS bad, "
            "extract(epoch FROM max(compared_at) - min(compared_at))::float8 AS span_s "
            f"FROM tick_evidence WHERE {_WHICH} GROUP BY number) "
            "SELECT date_trunc('hour', begins) AS begins, sum(count)::bigint AS count, sum(bad)::bigint AS bad, "
            f"sum({covered})::float8 AS covered_s FROM stretch GROUP BY 1 ORDER BY 1",
            {"bad": list(bad), "size": size_s, "interval": interval_s},
        )
        return [Hour(**row) for row in rows]

    def episodes(self, bad: Sequence[str], gap: int, limit: int = 5) -> Episodes:
        """Ticks of these kinds, those at most `gap` apart being one episode; of the largest, `limit` are named."""
        rows = self._rows(
            "WITH bad AS (SELECT tick, tick - lag(tick) OVER (ORDER BY tick) AS since FROM tick_evidence "
            f"WHERE {_WHICH} AND kind <> 'match' AND kind = ANY(:bad)), "
            "named AS (SELECT tick, count(*) FILTER (WHERE since IS NULL OR since > :gap) OVER (ORDER BY tick) AS "
            "episode, count(*) FILTER (WHERE since IS NULL OR since > 1) OVER (ORDER BY tick) AS streak FROM bad), "
            "streaks AS (SELECT episode, min(tick) AS first, max(tick) AS last, count(*) AS count FROM named "
            "GROUP BY episode, streak) "
            "SELECT min(first) AS first_tick, max(last) AS last_tick, sum(count)::bigint AS count, "
            "count(*) OVER () AS episodes, max(max(count)) OVER () AS longest FROM streaks "
            "GROUP BY episode ORDER BY count DESC, first_tick LIMIT :limit",
            {"bad": list(bad), "gap": gap, "limit": limit},
        )
        if not rows:
            return Episodes(count=0, longest_streak=0, largest=())
        return Episodes(
            count=rows[0]["episodes"],
            longest_streak=rows[0]["longest"],
            largest=tuple(
                Episode(first_tick=row["first_tick"], last_tick=row["last_tick"], count=row["count"]) for row in rows
            ),
        )

    def spans(self, count: int) -> list[Span]:
        """At most `count` stretches of the run, of equal numbers of ticks, in order."""
        rows = self._rows(
            f"WITH size AS (SELECT greatest(1, ceil((max(tick) + 1) / CAST(:count AS float8)))::int AS ticks "
            f"FROM tick_evidence WHERE {_WHICH}) "
            "SELECT max(tick) AS last_tick, count(*) AS count, "
            f"percentile_disc(ARRAY[0.1, 0.5, 0.9]) WITHIN GROUP (ORDER BY {_RATIO}) "
            f"FILTER (WHERE {_BOTH}) AS ratios "
            f"FROM tick_evidence, size WHERE {_WHICH} GROUP BY tick / size.ticks ORDER BY 1",
            {"count": count},
        )
        return [
            Span(
                last_tick=row["last_tick"],
                count=row["count"],
                ratios=None if row["ratios"] is None else tuple(map(float, row["ratios"])),
            )
            for row in rows
        ]

    def ratio_histogram(self, per_decade: int) -> list[tuple[float, int]]:
        """Ticks by their ratio candidate / control, in bins whose edges are a constant factor apart: (left edge,
        ticks), without gaps. The outermost bins, from a thousandth and to a thousandfold, hold what lies beyond."""
        rows = self._rows(
            f"SELECT greatest(-3 * :per, least(3 * :per, floor(log({_RATIO}) * :per)))::int AS bin, "
            f"count(*) AS count FROM tick_evidence WHERE {_WHICH} AND {_BOTH} "
            "GROUP BY bin ORDER BY bin",
            {"per": per_decade},
        )
        counts = {row["bin"]: row["count"] for row in rows}
        if not counts:
            return []
        return [(10 ** (index / per_decade), counts.get(index, 0)) for index in range(min(counts), max(counts) + 1)]

    def telling_tick(self, median: float) -> int | None:
        """A tick that shows both systems at their work: of the latest that match, one with most steps run, and of
        those the one whose ratio is nearest to the median."""
        rows = self._rows(
            f"SELECT tick FROM (SELECT tick, {_RATIO} AS ratio, length(translate(steps, 'N-', '')) "
            f"AS ran FROM tick_evidence WHERE {_WHICH} AND {_BOTH} AND kind = 'match' "
            "ORDER BY tick DESC LIMIT 300) AS late ORDER BY ran DESC, abs(ratio - :median), tick LIMIT 1",
            {"median": median},
        )
        return rows[0]["tick"] if rows else None

    def groups_by_span(self, ends: Sequence[int]) -> list[list[Group]]:
        """The ticks up to each of these last ticks, counted apart from those of the stretch before."""
        rows = self._rows(
            f"SELECT width_bucket(tick, CAST(:begins AS int[])) AS span, {_ALIKE}, count(*) AS count "
            f"FROM tick_evidence WHERE {_WHICH} GROUP BY span, {_ALIKE} ORDER BY span, {_ALIKE}",
            {"begins": [end + 1 for end in ends]},
        )
        found: list[list[Group]] = [[] for _ in ends]
        for row in rows:
            span = row.pop("span")
            if span < len(found):
                found[span].append(Group(**row))
        return found

    def ticks(self, condition: str, values: Mapping[str, Any], limit: int) -> tuple[int, list[TickRow]]:
        """How many ticks meet a condition in SQL on tick_evidence (made here or in reports.explain, never by a
        user), and the first `limit` of them."""
        where = f"{_WHICH} AND ({condition})"
        total = self._rows(f"SELECT count(*) AS n FROM tick_evidence WHERE {where}", values)[0]["n"]
        rows = self._rows(
            "SELECT e.tick, e.kind, c.reason, e.control_ms, e.candidate_ms FROM (SELECT * FROM tick_evidence "
            f"WHERE {where} ORDER BY tick LIMIT :limit) AS e JOIN shadow_comparisons AS c USING (run, tick) "
            "ORDER BY e.tick",
            {"limit": limit, **values},
        )
        return total, [TickRow(**row) for row in rows]

    def _rows(self, statement: str, values: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
        with self.engine.connect() as connection:
            if self._snapshot is not None:
                connection = connection.execution_options(isolation_level="REPEATABLE READ")
                # Its name is PostgreSQL's own; this statement takes no parameters.
                connection.exec_driver_sql(f"SET TRANSACTION SNAPSHOT '{self._snapshot}'")
            found = connection.execute(text(statement), {"run": self.run, **(values or {})})
            return [dict(row) for row in found.mappings()]


@contextmanager
def snapshot(engine: Engine) -> Iterator[str]:
    """The name of a snapshot of the database as it is now, which holds while the context lasts."""
    with engine.connect().execution_options(isolation_level="REPEATABLE READ") as connection:
        yield str(connection.exec_driver_sql("SELECT pg_export_snapshot()").scalar_one())


def limit_condition(factor: float, extra_ms: float) -> tuple[str, dict[str, float]]:
    """The condition that a tick exceeds `factor * control + extra_ms` (factor 0: a fixed limit), and its values."""
    return _slower(0), _limits([(factor, extra_ms)])


def _slower(index: int) -> str:
    """The condition that a tick exceeds limit number `index`. With factor 0 the control's duration, which may be
    infinite, must not enter."""
    return (
        f"({NEW_MS}) > CASE WHEN :factor{index} = 0 THEN :extra{index} "
        f"ELSE :factor{index} * ({_OLD}) + :extra{index} END"
    )


def _limits(limits: Sequence[tuple[float, float]]) -> dict[str, float]:
    return {
        name: value
        for index, (factor, extra_ms) in enumerate(limits)
        for name, value in ((f"factor{index}", float(factor)), (f"extra{index}", float(extra_ms)))
    }
