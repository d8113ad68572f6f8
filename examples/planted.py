"""The being's port with one defect, as a port easily has it: `meta` looks only at the snapshot, and so misses the
tick's own episode.

In the old system `meta` runs after `action` and sees the episode that `action` has just added. In the new one it
starts from the state at the tick's start, and has to take the new episode from the result of `action`. This port
forgot.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import digital_being
from digital_being.steps import ask
from tickover import TickContext


def forgetful_meta(context: TickContext) -> dict[str, Any]:
    """A principle drawn from stale episodes."""
    lately = " ".join(episode["reflection"] for episode in context.state["episodes"][-3:])
    principle = ask(context, f"Lately: {lately} Name one principle to live by.")
    context.emit("state.principles", {"text": principle, "weight": round(context.random.uniform(0.5, 1.0), 3)})
    return {"principle": principle}


heavy_tick = replace(
    digital_being.heavy_tick,
    version="1-planted",
    steps=[
        replace(step, run=forgetful_meta) if step.name == "meta" else step for step in digital_being.heavy_tick.steps
    ],
)
