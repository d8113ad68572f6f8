"""Whom her newsletters greet."""


def greeting(names: list[str]) -> str:
    """A greeting for all readers."""
    return f"Dear {' and '.join(names)}, nothing happened."
