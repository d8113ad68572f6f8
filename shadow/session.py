"""Everything that a run needs, started for its duration: servers, schema, services, a worker; and stopped after
it."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

from async_tick.worker import keep_worker
from shadow.compare import Comparison
from shadow.keys import evidence_keys
from shadow.observation import Graph
from shadow.paired import PairedRunner
from shadow.plan import Mode, RunPlan
from shadow.rules import RuleBook
from shadow.runner import Homes, RecordRunner
from shadow.sides import LegacySide
from shadow.store import Store
from tickover.errors import ConfigurationError
from tickover.execution import System
from tickover.ground.commands import ready_database
from tickover.ground.database import engine
from tickover.ground.settings import get_settings, reset_settings
from tickover.loading import load_workload
from tickover.workflow import Workflow

Tell = Callable[[int, Comparison], None]
Say = Callable[[str], None]


@contextlib.contextmanager
def open_store() -> Iterator[Store]:
    """The store of the database in use, its schema checked."""
    with ready_database() as endpoints:
        yield Store(engine(endpoints.database_url))


def check(plan: RunPlan, workflow: Workflow) -> None:
    """Raise ConfigurationError if this workload cannot be run as planned."""
    if workflow.legacy is None:
        raise ConfigurationError(
            f"workload {plan.workload} names no legacy; set `legacy` of its Workflow to the old system's callable"
        )
    if workflow.read_state is None or workflow.write_state is None:
        raise ConfigurationError(f"workload {plan.workload} needs read_state and write_state, to make copies with")
    if plan.home is not None and not _serves_legacy(plan):
        raise ConfigurationError(
            "--home names the old system's own home, which only `--mode record --candidate async` runs on; "
            "leave it out, or leave out --mode and --candidate"
        )


def _serves_legacy(plan: RunPlan) -> bool:
    """Whether the old system runs as it is, on its own home; otherwise everything runs on copies."""
    return plan.mode is Mode.RECORD and plan.control is System.LEGACY


def run_plan(
    plan: RunPlan, *, resume: bool, workers: int, tell: Tell, say: Say, rules: RuleBook | None = None
) -> None:  # fmt: skip
    """Run a plan to its end, or what is left of it. What it starts it stops; raises TickoverError. A run that is
    resumed may have a plan with more ticks than it had.

    rules: those of a new run, None for none; a resumed one keeps its own.
    """
    workflow = load_workload(plan.workload)
    check(plan, workflow)
    holder = f"{socket.gethostname()}:{os.getpid()}"
    with contextlib.ExitStack() as stack:
        endpoints = stack.enter_context(ready_database())
        settings = get_settings()
        env = endpoints.environment()
        env["TICKOVER_WORKLOAD"] = plan.workload
        if settings.model_url:
            env["TICKOVER_MODEL_URL"] = settings.model_url
        elif workflow.services is not None:
            env.update(stack.enter_context(workflow.services(plan.time_scale, plan.seed)))
            say("no TICKOVER_MODEL_URL: the workload's own scripted services answer")
        os.environ.update(env)
        reset_settings()
        store = Store(engine(endpoints.database_url))
        graph = Graph.of(workflow)
        keys = evidence_keys(plan, workflow, rules or RuleBook())
        if not resume:
            store.create_run(plan, graph, keys, holder)
        record = store.run(plan.run)
        if record.behaviour_key != keys["behaviour"]:
            raise ConfigurationError(
                f"run {plan.run} was made with other code or settings, and evidence is not to be mixed; "
                "start a new run"
            )
        stack.enter_context(store.hold(plan.run, holder))
        if plan != record.plan:
            record = store.extend(plan)
        store.set_status(plan.run, "running")
        if workers:
            logs = settings.data_dir.expanduser().absolute() / "logs"
            stack.enter_context(keep_worker(logs, threads=workers, name=f"shadow-{plan.run}", env=env, say=say))
        homes = _homes(plan, workflow, fresh=not resume)
        try:
            if _serves_legacy(plan):
                RecordRunner(plan, record, workflow, store, homes, env, tell).run()
            else:
                legacy, reference = (
                    LegacySide(plan.workload, workflow, home, time_scale=plan.time_scale, env=env)
                    for home in (homes.control, homes.reference)
                )
                PairedRunner(plan, record, workflow, store, legacy, reference, tell).run()
        except BaseException:
            store.set_status(plan.run, "interrupted")
            raise
        store.set_status(plan.run, "done")


def _homes(plan: RunPlan, workflow: Workflow, *, fresh: bool) -> Homes:
    root = get_settings().data_dir.expanduser().absolute() / "runs" / plan.run
    control = Path(plan.home).expanduser().absolute() if plan.home else root / "control"
    if fresh and plan.home is None:
        assert workflow.write_state is not None
        control.mkdir(parents=True, exist_ok=True)
        workflow.write_state(control, workflow.start_state())
    return Homes(control=control, reference=root / "reference")
