"""What the old systems of the tests' small jobs keep their state in."""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class OldStore:
    """A JSON document in a file of the home, replaced as a whole. start: what it holds before it was ever written."""

    name: str
    start: dict[str, Any]

    def read(self, home: Path) -> dict[str, Any]:
        """The state as the old system has it."""
        path = home / self.name
        found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else self.begin()
        return found

    def write(self, home: Path, state: dict[str, Any]) -> None:
        """Give the old system a state."""
        home.mkdir(parents=True, exist_ok=True)
        draft = home / f"{self.name}.draft"
        draft.write_text(json.dumps(state))
        draft.replace(home / self.name)

    def begin(self) -> dict[str, Any]:
        """The start, as a value of one's own."""
        return copy.deepcopy(self.start)


# A list that each tick enters itself into.
LIST = OldStore("list.json", {"entries": []})
