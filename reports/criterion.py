"""Criteria: one budgeted question each, what the counts say of it, and what is still needed."""

from __future__ import annotations

import enum
import math
from collections.abc import Mapping
from dataclasses import dataclass

from reports.policy import Rule
from reports.statistics import Counts, bound, log_e, more_ticks
from reports.tally import Pairs, Tally
from reports.text import percent


class Status(enum.StrEnum):
    """What the evidence says of a criterion."""

    PASS = "PASS"
    """The budget is kept, at the policy's error."""
    FAIL = "FAIL"
    """The budget is broken, at the policy's error."""
    OPEN = "OPEN"
    """Neither is shown yet."""
    WARN = "WARN"
    """Advisory, and probably broken."""
    NO_DATA = "NO_DATA"
    """Nothing was counted: never a pass."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Criterion:
    """A criterion and what the evidence says of it; immutable.

    name: "mismatch", "mismatch/STEP", "failure" and so on. unit: "share" of ticks, or "difference" of two shares.
    n, bad: the counts, unknown ones as the worst case. rate: bad/n, None without n. bound, lower: 95 % bounds (at
    the policy's alpha); the one from below takes unknown ones for good. best_bound: the bound if they were.
    budget: what must be undercut. evidence: the betting score for the budget being kept; against: for its being
    broken, unknown ones taken for good. more_if_clean, more_at_rate: further ticks until it passes, if all are
    clean or at the rate so far; None where no number will do.
    """

    name: str
    title: str
    group: str
    critical: bool
    status: Status
    unit: str
    n: float
    bad: float
    rate: float | None
    bound: float
    lower: float
    best_bound: float
    budget: float
    evidence: float
    against: float
    unknown: int
    more_if_clean: int | None
    more_at_rate: int | None
    sentence: str

    @property
    def passes(self) -> bool:
        """Whether it is no obstacle to READY."""
        return self.status is Status.PASS or not (self.critical or self.status is Status.FAIL)


@dataclass(frozen=True, kw_only=True, slots=True)
class Question:
    """A criterion before it is judged; immutable. counts: value -> how often, the worst case where unknown.
    best: the counts if all unknown ones were good. per: ticks that one counted value stands for. share: of the run's
    ticks that are counted (a step that seldom applies). what: completes "at most 0.49 % of ticks ...". condemns: may
    prove NOT_READY though READY does not wait for it."""

    name: str
    title: str
    group: str
    rule: Rule
    counts: Counts
    best: Counts
    lo: float
    hi: float
    what: str
    unknown: int = 0
    per: int = 1
    share: float = 1.0
    of: str = "ticks"
    condemns: bool = False

    @property
    def decides(self) -> bool:
        """Whether the verdict can rest on it, one way or the other."""
        return self.rule.critical or self.condemns


def of_tally(
    name: str,
    title: str,
    group: str,
    rule: Rule,
    tally: Tally,
    what: str,
    *,
    of: str = "ticks",
    share: float = 1.0,
    condemns: bool = False,
) -> Question:
    """A question about a share of ticks. Unknown ticks are bad in the worst case."""
    good = tally.n - tally.bad
    return Question(
        name=name, title=title, group=group, rule=rule, lo=0.0, hi=1.0, what=what, unknown=tally.unknown, of=of,
        share=share, condemns=condemns, counts={1.0: tally.bad + tally.unknown, 0.0: good},
        best={1.0: tally.bad, 0.0: good + tally.unknown},
    )  # fmt: skip


def of_pairs(
    name: str, title: str, group: str, rule: Rule, pairs: Pairs, what: str, *, of: str = "ticks"
) -> Question:
    """A question about a difference of shares. What is bad in the old system alone helps."""
    same = pairs.n - pairs.new_only - pairs.old_only
    return Question(
        name=name, title=title, group=group, rule=rule, lo=-1.0, hi=1.0, what=what, unknown=pairs.unknown, of=of,
        counts={1.0: pairs.new_only + pairs.unknown, -1.0: pairs.old_only, 0.0: same},
        best={1.0: pairs.new_only, -1.0: pairs.old_only, 0.0: same + pairs.unknown},
    )  # fmt: skip


def of_blocks(name: str, title: str, group: str, rule: Rule, means: Mapping[float, int], what: str) -> Question:
    """A question about the mean of block means; only complete blocks count."""
    return Question(
        name=name, title=title, group=group, rule=rule, lo=0.0, hi=1.0, what=what, counts=means, best=means,
        per=rule.block, of="blocks",
    )  # fmt: skip


def answer(question: Question, alpha: float, beta: float, warn: float = 20.0) -> Criterion:
    """The criterion as the counts decide it.

    alpha: error of a pass. beta: error of a fail, divided already among the criteria that decide. warn: the score
    above which an advisory one is probably broken.
    """
    counts, budget, lo, hi = question.counts, question.rule.budget, question.lo, question.hi
    n = sum(counts.values())
    # What is not known is bad where a budget is to be kept, and good where one is to be broken: a runner that was
    # killed must not condemn a version whose ticks `--resume` then compares.
    evidence, against = log_e(counts, budget, lo, hi, "below"), log_e(question.best, budget, lo, hi, "above")
    if not n:
        status = Status.NO_DATA
    elif evidence >= -math.log(alpha):
        status = Status.PASS
    elif question.decides and against >= -math.log(beta):
        status = Status.FAIL
    elif not question.decides and against >= math.log(warn):
        status = Status.WARN
    else:
        status = Status.OPEN
    bad = counts.get(1.0, 0) if question.per == 1 else sum(value * number for value, number in counts.items())
    total = math.fsum(value * number for value, number in counts.items())
    upper = bound(counts, alpha, lo, hi, "below")
    at_rate = {value: number / n for value, number in counts.items()} if n else {}
    return Criterion(
        name=question.name, title=question.title, group=question.group, critical=question.rule.critical,
        status=status, unit="difference" if lo < 0 else "share", n=n, bad=bad, rate=total / n if n else None,
        bound=upper, lower=bound(question.best, alpha, lo, hi, "above"),
        best_bound=bound(question.best, alpha, lo, hi, "below") if question.unknown else upper, budget=budget,
        evidence=_score(evidence), against=_score(against), unknown=question.unknown,
        more_if_clean=_ticks(more_ticks(counts, budget, lo, hi, "below", alpha, {0.0: 1.0}), question),
        more_at_rate=_ticks(more_ticks(counts, budget, lo, hi, "below", alpha, at_rate), question) if n else None,
        sentence=_sentence(question, bool(n), upper, alpha),
    )  # fmt: skip


def _score(log_evidence: float) -> float:
    return math.exp(min(log_evidence, 700.0))


def _ticks(values: int | None, question: Question) -> int | None:
    """Ticks of the run that it takes to count so many values more."""
    return None if values is None else math.ceil(values * question.per / question.share)


def _sentence(question: Question, counted: bool, upper: float, alpha: float) -> str:
    budget, of, what = question.rule.budget, question.of, question.what
    if not counted:
        return f"Nothing was counted yet, so it is not known how many {of} {what}."
    sure = f"With {100 * (1 - alpha):g} % confidence, whenever one looks,"
    if question.lo < 0:
        return (
            f"{sure} the share of {of} that {what} changes by {100 * upper:+.2f} percentage points at most; "
            f"{100 * budget:+.2f} is allowed."
        )
    return f"{sure} at most {percent(upper)} of {of} {what}; {percent(budget)} is allowed."
