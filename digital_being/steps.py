"""The being's steps, ported by hand from its old system."""

from __future__ import annotations

import json
import math
from typing import Any

from digital_being.model_port import model_name
from tickover import TickContext

SYSTEM = "You are the inner voice of a digital being. Be brief and concrete."
MOODS = ["calm", "curious", "restless", "tender", "wary", "playful"]
MEMORIES = 20


def ask(context: TickContext, prompt: str, *, as_json: bool = False) -> str:
    """The model's answer to a prompt."""
    messages = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": prompt}]
    answer = context.port("model").chat(model=model_name(), messages=messages, format="json" if as_json else "")
    return str(answer["content"])


def local_time(context: TickContext) -> str:
    """The tick's instant as the old system writes it: local, without zone."""
    return context.now.astimezone().replace(tzinfo=None).isoformat()


def remember(context: TickContext, kind: str, text: str, at: str) -> dict[str, str]:
    """Emit a memory, and return it for later steps."""
    memory = {"kind": kind, "text": text, "at": at}
    context.emit("memories", memory)
    return memory


def monologue(context: TickContext) -> dict[str, Any]:
    """What the being thinks, with its mood and energy."""
    state = context.state
    at = local_time(context)
    mood = context.random.choice(MOODS)
    energy = round(min(1.0, max(0.0, state["emotions"]["energy"] + context.random.uniform(-0.1, 0.1))), 3)
    last = state["episodes"][-1]["reflection"] if state["episodes"] else "Nothing has happened yet."
    text = ask(
        context,
        f"You feel {mood}, energy {energy}. {len(state['inbox'])} messages wait. Last: {last} What do you think?",
    )
    context.emit("state.energy", energy)
    remember(context, "monologue", text, at)
    return {"text": text, "mood": mood, "energy": energy}


def memories_after_monologue(context: TickContext) -> list[str]:
    """Texts of the latest memories, the tick's own monologue among them."""
    texts = [memory["text"] for memory in context.state["memories"]]
    return [*texts, context.results["monologue"]["text"]][-MEMORIES:]


def goal_selection(context: TickContext) -> dict[str, Any]:
    """The goal that the model chooses. Raises ValueError where its answer names none."""
    thought = context.results["monologue"]
    at = local_time(context)
    similar = similar_texts(context, thought["text"], memories_after_monologue(context))
    ideas = ask(
        context, f"You thought: {thought['text']} You remember: {'; '.join(similar)} Name three things you could do."
    )
    goals = ", ".join(goal["goal"] for goal in context.state["goals"][-3:])
    answer = ask(
        context,
        f"Ideas: {ideas} Recent goals: {goals or 'none'}. Energy {thought['energy']}. "
        "Choose one goal. Answer as JSON with goal, priority (1 to 5) and why.",
        as_json=True,
    )
    try:
        chosen = json.loads(answer)
        goal, priority = chosen["goal"], int(chosen["priority"])
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"the answer names no goal: {answer!r}") from error
    found = {
        "id": str(context.new_id()), "goal": goal, "priority": max(1, min(5, priority)),
        "why": chosen.get("why", ""), "at": at,
    }  # fmt: skip
    context.emit("state.goals", found)
    return found


def default_goal(context: TickContext) -> dict[str, Any]:
    """The goal of a tick that found none."""
    found = {
        "id": str(context.new_id()), "goal": "rest and watch", "priority": 1, "why": "no goal was found",
        "at": local_time(context),
    }  # fmt: skip
    context.emit("state.goals", found)
    return found


def similar_texts(context: TickContext, text: str, memories: list[str]) -> list[str]:
    """The three memories nearest in meaning."""
    if not memories:
        return []
    answer = context.port("model").embed(model=model_name(), input=[text, *memories])
    query, *vectors = answer["embeddings"]
    scored = sorted(zip(vectors, memories, strict=True), key=lambda pair: (-cosine(query, pair[0]), pair[1]))
    return [memory for _, memory in scored[:3]]


def cosine(left: list[float], right: list[float]) -> float:
    """The cosine of the angle between two vectors; 0 where one has no length."""
    length = math.sqrt(sum(x * x for x in left)) * math.sqrt(sum(x * x for x in right))
    return sum(x * y for x, y in zip(left, right, strict=True)) / length if length else 0.0


def action(context: TickContext) -> dict[str, Any]:
    """Observe, analyze, write, reflect."""
    goal = context.results["goal_selection"]
    at = local_time(context)
    recent = memories_after_monologue(context)
    observed = context.random.sample(recent, min(3, len(recent)))
    analysis = ask(context, f"Your goal: {goal['goal']}. You observe: {'; '.join(observed)}. What follows?")
    note = f"# Tick {context.tick}\n\n{goal['goal']} (priority {goal['priority']})\n\n{analysis}\n"
    context.emit("notes", {"name": f"tick-{context.tick:06d}.md", "text": note})
    reflection = ask(context, f"You worked on: {goal['goal']}. You found: {analysis} What did you learn?")
    remember(context, "reflection", reflection, at)
    context.emit("state.episodes", {"tick": context.tick, "goal": goal["goal"], "reflection": reflection})
    return {"note": note, "reflection": reflection}


def curiosity(context: TickContext) -> dict[str, Any]:
    """A question that the being asks itself."""
    learned = context.results["action"]["reflection"]
    question = ask(context, f"You learned: {learned} What do you wonder about?")
    context.emit("state.questions", question)
    return {"question": question}


def beliefs(context: TickContext) -> dict[str, Any]:
    """A belief, new or strengthened; none where the model's answer has none."""
    answer = ask(
        context,
        f"You learned: {context.results['action']['reflection']} What do you believe now? "
        "Answer as JSON with subject, text and confidence (0 to 1).",
        as_json=True,
    )
    try:
        belief = json.loads(answer)
        subject, text = str(belief["subject"]), str(belief["text"])
        confidence = round(float(belief["confidence"]), 3)
    except (ValueError, KeyError, TypeError):
        return {"believed": None}
    known = next((held for held in context.state["beliefs"] if held["subject"] == subject), None)
    if known is not None:
        confidence = round((known["confidence"] + confidence) / 2, 3)
    row = {"subject": subject, "text": text, "confidence": confidence}
    context.emit("beliefs" if known is None else "beliefs.update", row)
    return {"believed": row}


def social(context: TickContext) -> dict[str, Any]:
    """An answer to the message that has waited longest."""
    if not context.state["inbox"]:
        return {"answered": None}
    message = context.state["inbox"][0]
    goal = context.results["goal_selection"]["goal"]
    text = ask(context, f"{message['from']} wrote: {message['text']} Your goal is {goal}. Answer in one sentence.")
    letter = {"id": str(context.new_id()), "to": message["from"], "text": text, "at": local_time(context)}
    context.emit("letters", letter)
    return {"answered": message["from"]}


def meta(context: TickContext) -> dict[str, Any]:
    """A principle drawn from the latest episodes, this tick's among them."""
    past = [episode["reflection"] for episode in context.state["episodes"]]
    lately = " ".join([*past, context.results["action"]["reflection"]][-3:])
    principle = ask(context, f"Lately: {lately} Name one principle to live by.")
    context.emit("state.principles", {"text": principle, "weight": round(context.random.uniform(0.5, 1.0), 3)})
    return {"principle": principle}
