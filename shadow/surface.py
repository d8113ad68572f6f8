"""The observed surface of a run: the doors that adapters watched, and those that were used unwatched."""

from __future__ import annotations

from collections.abc import Iterable

from shadow.store import RunRecord, Store


class Surface:
    """What was seen of a control so far, kept in the store whenever it grows: a report may be read, and a runner
    killed, at any time. It goes on from what an interrupted run has kept."""

    def __init__(self, store: Store, record: RunRecord) -> None:
        self._store, self._run = store, record.run
        self._seen = {name: set(record.surface.get(name, ())) for name in ("observed", "unobserved")}

    def add(self, observed: Iterable[str], unobserved: Iterable[str]) -> None:
        """Note the doors of one tick."""
        before = sum(map(len, self._seen.values()))
        self._seen["observed"].update(observed)
        self._seen["unobserved"].update(unobserved)
        if sum(map(len, self._seen.values())) > before:
            self._store.note_surface(self._run, {name: sorted(doors) for name, doors in self._seen.items()})
