"""What the doctor hears from live workers: what they run, how, and which queues nobody serves."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from async_tick.about import COMMAND, about_here
from async_tick.doctor.finding import Finding, ok, problem, warning
from async_tick.doctor.here import pool_finding
from async_tick.limits import HARD_MARGIN_S
from tickover.workflow import Workflow

# How long workers have to answer the first question, in seconds; the later ones end with the last answer.
ANSWER_S = 2.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Worker:
    """What one worker answered; immutable. about: None for one that is not Tickover's, or too old to say."""

    name: str
    about: Mapping[str, Any] | None
    queues: frozenset[str]
    stats: Mapping[str, Any] = field(default_factory=dict)
    conf: Mapping[str, Any] = field(default_factory=dict)


def ask_workers(app: Any, timeout_s: float = ANSWER_S) -> list[Worker]:
    """All workers that answer at the application's broker. Raises what the broker's client raises."""
    with app.connection_for_write() as connection:

        def ask(command: str, limit: int | None) -> dict[str, Any]:
            replies = app.control.broadcast(
                command, reply=True, timeout=timeout_s, limit=limit, connection=connection
            )  # fmt: skip
            return {name: answer for reply in replies or () for name, answer in reply.items()}

        names = sorted(ask("ping", None))
        if not names:
            return []
        about, queues, stats, conf = (
            ask(command, len(names)) for command in (COMMAND, "active_queues", "stats", "conf")
        )  # fmt: skip
    return [
        Worker(
            name=name, about=None if "error" in about.get(name, {"error": ""}) else about[name],
            queues=frozenset(queue["name"] for queue in queues.get(name, ()) if "name" in queue),
            stats=stats.get(name, {}), conf=conf.get(name, {}),
        )
        for name in names
    ]  # fmt: skip


def worker_findings(
    workers: Iterable[Worker], workflow: Workflow, *, connected: int | None, needed: bool
) -> list[Finding]:  # fmt: skip
    """What the workers' answers say.

    connected: how many are connected to the database, None if it cannot be asked. needed: whether ticks need them
    now, because the new system is in charge.
    """
    wanted = {step.queue for step in workflow.steps}
    found = list(workers)
    ours = [worker for worker in found if worker.about is not None]
    findings = [_presence(ours, connected, needed=needed)]
    if ours or needed:
        findings += [_queue(queue, ours) for queue in sorted(wanted)]
    for worker in found:
        if worker.about is None:
            findings += _stranger(worker, wanted)
        else:
            findings += _one_of_ours(worker)
    return findings


def _presence(ours: list[Worker], connected: int | None, *, needed: bool) -> Finding:
    start = "start one with `tickover worker`, or `systemctl start tickover-worker@critical`"
    if not ours and not connected:
        if needed:
            return problem("workers", "the new system is in charge, and no worker answers", start)
        return warning(
            "workers", "none answers; a command that needs one starts its own for as long as it runs",
            f"before a switchover {start}",
        )  # fmt: skip
    if connected is not None and connected != len(ours):
        said = f"{len(ours)} answer at the broker, {connected} are connected to this database"
        if connected < len(ours):
            return problem(
                "workers", f"{said}: the others work on another one, and take hints that they cannot claim",
                "give all the same DATABASE_URL and CELERY_BROKER_URL, and restart them",
            )  # fmt: skip
        return warning(
            "workers", f"{said}: the others use another broker, are busy in a solo pool, or hang",
            "give all the same CELERY_BROKER_URL; `celery -A async_tick.celery_app status` lists who answers",
        )  # fmt: skip
    return ok("workers", f"{len(ours)} answer")


def _queue(queue: str, ours: list[Worker]) -> Finding:
    serving = [worker for worker in ours if queue in worker.queues]
    if not serving:
        return problem(
            f"queue {queue}", "no worker answers for it: its steps wait for good",
            f"start one with `tickover worker --queues={queue}`",
        )  # fmt: skip
    return ok(f"queue {queue}", f"served by {', '.join(worker.name for worker in serving)}")


def _stranger(worker: Worker, wanted: set[str]) -> list[Finding]:
    taken = sorted(worker.queues & wanted)
    if not taken:
        return []
    return [problem(
        f"worker {worker.name}", f"it serves {', '.join(taken)} and is no worker of this version of Tickover: it "
        "drops the hints that it gets, and each of their steps waits until it is hinted again",
        "restart it if it is an older one; else use a broker or a database number of your own in CELERY_BROKER_URL",
    )]  # fmt: skip


def _one_of_ours(worker: Worker) -> list[Finding]:
    findings = [_same_work(worker)]
    pool = worker.stats.get("pool", {})
    if implementation := str(pool.get("implementation", "")):
        findings.append(pool_finding(worker.name, implementation))
    findings += settings_findings(worker.name, worker.conf)
    findings += _prefetch(worker, pool)
    findings += _time_limits(worker, pool)
    return findings


def _same_work(worker: Worker) -> Finding:
    """Whether a worker runs what this process would have it run."""
    here, there = about_here(), dict(worker.about or {})
    names = {
        "tickover": "Tickover", "workload": "workload", "version": "version", "code": "code", "limits": "step limits"
    }  # fmt: skip
    other = [
        f"{shown} {there.get(name)} (here {here[name]})"
        for name, shown in names.items()
        if there.get(name) != here[name]
    ]
    if not other:
        return ok(f"worker {worker.name}", f"runs {here['workload']}, version {here['version']}")
    return problem(
        f"worker {worker.name}", f"it runs something else than is here: {'; '.join(other)}",
        "give it the same code and environment, and restart it",
    )  # fmt: skip


def settings_findings(who: str, conf: Mapping[str, Any]) -> list[Finding]:
    """What a worker's Celery settings would do to Tickover's way of working; nothing where they do no harm."""
    findings = []
    accepted = [str(kind) for kind in conf.get("accept_content", ())]
    unsafe = [kind for kind in accepted if kind not in ("json", "application/json")]
    if unsafe:
        findings.append(problem(
            f"serialiser of {who}", f"it accepts {', '.join(unsafe)}: a pickled message runs what its sender likes",
            'leave accept_content at ["json"], and restart it',
        ))  # fmt: skip
    own = [name for name in ("task_publish_retry", "task_reject_on_worker_lost") if conf.get(name)]
    if "autoretry" in str(conf.get("task_annotations") or "") or "max_retries" in str(
        conf.get("task_annotations") or ""
    ):
        own.append("task_annotations")
    if own:
        findings.append(warning(
            f"retries of {who}", f"{', '.join(own)} set: Celery then repeats what Tickover repeats itself",
            "leave them unset, and restart it; attempts and waits belong to a step's `retry`",
        ))  # fmt: skip
    if conf.get("task_acks_late") is False:
        findings.append(warning(
            f"acknowledgement of {who}", "task_acks_late is off: a hint lost with its worker is sent again only by "
            "the sweeper", "leave task_acks_late on, and restart it",
        ))  # fmt: skip
    return findings


def _prefetch(worker: Worker, pool: Mapping[str, Any]) -> list[Finding]:
    taken, at_once = worker.stats.get("prefetch_count"), pool.get("max-concurrency")
    if not taken or not at_once or taken <= at_once:
        return []
    return [warning(
        f"prefetch of {worker.name}", f"it takes {taken} hints and works on {at_once}: the rest waits there while "
        "others are free", "start it with --prefetch-multiplier=1, as `tickover worker` does",
    )]  # fmt: skip


def _time_limits(worker: Worker, pool: Mapping[str, Any]) -> list[Finding]:
    """Celery's own limits count a message, which may hold several steps, and know nothing of their limits."""
    given = [*pool.get("timeouts", ()), worker.conf.get("task_time_limit"), worker.conf.get("task_soft_time_limit")]
    set_s = [float(limit) for limit in given if limit]
    about = worker.about or {}
    longest = max(about.get("limits", {"": 0.0}).values()) + HARD_MARGIN_S
    if not set_s:
        return []
    harm = problem if min(set_s) < longest else warning
    return [harm(
        f"time limit of {worker.name}", f"Celery's own limit of {min(set_s):g} s ends it in the middle of a message; "
        f"a step alone may take {longest:g} s",
        "start it without --time-limit and --soft-time-limit: steps have limits of their own",
    )]  # fmt: skip
