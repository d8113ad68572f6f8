"""The built-in workload: the heavy tick of a digital being, `digital_being:heavy_tick`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from digital_being import state, steps
from digital_being.model_port import DEFAULT_URL, model, model_name
from tickover import RetryPolicy, Step, Workflow

RETRY = RetryPolicy(attempts=3, backoff_s=1, max_backoff_s=10)


def legacy_env(home: Path, time_scale: float, model_url: str | None) -> Mapping[str, str]:
    """How the old system is told where it lives, where its model is, and how long a step may take."""
    return {
        "BEING_HOME": str(home),
        "BEING_MODEL_URL": model_url or DEFAULT_URL,
        "BEING_MODEL": model_name(),
        "BEING_STEP_TIMEOUT": str(20 * time_scale),
    }


@contextmanager
def services(time_scale: float, seed: int) -> Iterator[Mapping[str, str]]:
    """The scripted model, for as long as the context lasts."""
    from digital_being.model_server import ModelServer, ModelSettings

    server = ModelServer(ModelSettings(seed=seed, time_scale=time_scale)).start()
    try:
        yield {"TICKOVER_MODEL_URL": server.url}
    finally:
        server.stop()


def stratum(tick: int, _: Any) -> str:
    """The kind of a tick: which of its occasional steps apply."""
    occasional = [name for name, every in (("curiosity", 2), ("beliefs", 3), ("meta", 5)) if tick % every == 0]
    return "+".join(occasional) or "plain"


heavy_tick = Workflow(
    name="heavy_tick",
    version="1",
    ports=[model],
    initial_state=state.initial_state,
    reduce=state.reduce,
    state_kinds=("state.energy", "state.goals", "state.episodes", "state.questions", "state.principles"),
    stratum=stratum,
    deliver=state.deliver,
    legacy="legacy.heavy_tick:run_tick",
    services=services,
    legacy_env=legacy_env,
    legacy_steps={
        name: f"legacy.heavy_tick:HeavyTick._{name}"
        for name in ("monologue", "goal_selection", "action", "curiosity", "beliefs", "social", "meta")
    },
    legacy_effects=state.legacy_effects,
    read_state=state.read_state,
    write_state=state.write_state,
    steps=[
        Step(name="monologue", run=steps.monologue, timeout_s=30, retry=RETRY),
        Step(
            name="goal_selection", run=steps.goal_selection, needs=("monologue",), timeout_s=90, retry=RETRY,
            fallback=steps.default_goal,
        ),
        Step(name="action", run=steps.action, needs=("monologue", "goal_selection"), timeout_s=45, retry=RETRY),
        Step(
            name="curiosity", run=steps.curiosity, needs=("action",), timeout_s=30, retry=RETRY, critical=False,
            queue="optional", when=lambda context: context.tick % 2 == 0,
        ),
        Step(
            name="beliefs", run=steps.beliefs, needs=("action",), timeout_s=30, retry=RETRY, critical=False,
            queue="optional", when=lambda context: context.tick % 3 == 0,
        ),
        Step(
            name="social", run=steps.social, needs=("goal_selection", "action"), timeout_s=25, retry=RETRY,
            critical=False, queue="optional",
        ),
        Step(
            name="meta", run=steps.meta, needs=("action",), timeout_s=25, retry=RETRY, critical=False,
            queue="optional", when=lambda context: context.tick % 5 == 0,
        ),
    ],
)  # fmt: skip
