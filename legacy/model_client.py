"""Talks to the language model."""

import os

import requests

MODEL_URL = os.environ.get("BEING_MODEL_URL", "http://127.0.0.1:11434")
MODEL = os.environ.get("BEING_MODEL", "being")

session = requests.Session()


def chat(system: str, prompt: str, json_answer: bool = False) -> str:
    body = {
        "model": MODEL,
        "stream": False,
        "messages": [{"role": "system", "content": system}, {"role": "user", "content": prompt}],
    }
    if json_answer:
        body["format"] = "json"
    response = session.post(MODEL_URL + "/api/chat", json=body, timeout=300)
    response.raise_for_status()
    return str(response.json()["message"]["content"])


def embed(texts: list[str]) -> list[list[float]]:
    response = session.post(MODEL_URL + "/api/embed", json={"model": MODEL, "input": texts}, timeout=300)
    response.raise_for_status()
    vectors: list[list[float]] = response.json()["embeddings"]
    return vectors
