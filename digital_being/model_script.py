"""What the scripted model says, and how long it takes: decided by the seed and the request alone."""

from __future__ import annotations

import hashlib
import json
import math
import random
from typing import Any

_SUBJECTS = [
    "the garden",
    "an old letter",
    "the quiet street",
    "a friend's silence",
    "the unfinished song",
    "rain",
    "a map",
]
_VERBS = [
    "keeps returning to me",
    "asks for patience",
    "could be mended",
    "teaches me something",
    "is not what it seemed",
]
_ENDS = [
    "and I will stay with it.",
    "so I go slowly.",
    "– that matters.",
    "and someone should know.",
    "before evening: 7°.",
]
_GOALS = [
    "write to a friend",
    "tend the garden",
    "finish the song",
    "learn one new word",
    "walk and look",
    "draw the map",
]
_DIMENSIONS = 16


def generator_of(seed: int, *parts: Any) -> random.Random:
    """A generator that depends on the seed and the parts, JSON values, alone."""
    text = json.dumps([seed, *parts], sort_keys=True, ensure_ascii=False)
    return random.Random(int.from_bytes(hashlib.sha256(text.encode()).digest(), "big"))


def sentence(draw: random.Random) -> str:
    """One sentence of the being's small language."""
    words = f"{draw.choice(_SUBJECTS)} {draw.choice(_VERBS)} {draw.choice(_ENDS)}"
    return words[0].upper() + words[1:]


def answer(draw: random.Random, prompt: str, as_json: bool, malformed_rate: float) -> str:
    """The text of a chat answer; as JSON, a share of `malformed_rate` is broken off, empty, or of the wrong shape."""
    if not as_json:
        return " ".join(sentence(draw) for _ in range(draw.randint(1, 3)))
    if "confidence" in prompt:
        document: dict[str, Any] = {
            "subject": draw.choice(_SUBJECTS), "text": sentence(draw), "confidence": round(draw.random(), 2),
        }  # fmt: skip
    else:
        document = {"goal": draw.choice(_GOALS), "priority": draw.randint(1, 5), "why": sentence(draw)}
    text = json.dumps(document, ensure_ascii=False)
    if draw.random() < malformed_rate:
        return draw.choice([text[: len(text) // 2], "", json.dumps({"thought": "none"})])
    return text


def embedding(text: str) -> list[float]:
    """A unit vector of the text, the same whatever the seed."""
    draw = generator_of(0, "embedding", text)
    vector = [draw.gauss(0, 1) for _ in range(_DIMENSIONS)]
    length = math.sqrt(sum(x * x for x in vector))
    return [round(x / length, 6) for x in vector]


def latency_s(draw: random.Random, median_s: float, slow_rate: float) -> float:
    """Seconds that an answer takes: log-normal, and for a share of `slow_rate` between 21 and 40 s."""
    if draw.random() < slow_rate:
        return draw.uniform(21, 40)
    return min(20.0, median_s * math.exp(draw.gauss(0, 0.5)))
