"""The ledger of a run, kept outside both systems: what PostgreSQL committed, in the order of the commits, and what
receivers of deliveries, the old system and whoever waits for a tick have seen.

`watch` has triggers note each change of the engine's tables. A note is part of the transaction that it tells of, and
transactions are numbered under a lock that is held through their commit, so their numbers stand in commit order.
`Notebook` is a file for everybody else: one line a note, written at once and on disk when the call returns.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tickover.canonical import digest
from tickover.effects import Effect
from tickover.errors import ConfigurationError
from tickover.ground.raw import connect_raw

# The advisory transaction lock under which commits are numbered.
_NUMBERING_LOCK = 731_652_911
# What is watched -> when an update of it is noted. Renewed leases, hints sent again, and that the old
# system's store got a state, tell nothing.
_WATCHED = {
    "workflows": "true",
    "step_runs": "(OLD.status, OLD.token, OLD.owner) IS DISTINCT FROM (NEW.status, NEW.token, NEW.owner)",
    "workflow_checkpoints": "true",
    "effects": "true",
    "ticks": "true",
    "states": "(to_jsonb(OLD) - 'written_to') IS DISTINCT FROM (to_jsonb(NEW) - 'written_to')",
    "outbox": "(to_jsonb(OLD) - 'attempts' - 'error') IS DISTINCT FROM (to_jsonb(NEW) - 'attempts' - 'error')",
    "route": "true",
}
# Documents are noted by their digest, the one of `tickover.canonical.digest`.
_DOCUMENTS = ("state", "input", "harness", "document", "payload")

_SCHEMA = f"""
DROP SCHEMA IF EXISTS tickover_history CASCADE;
CREATE SCHEMA tickover_history;
CREATE TABLE tickover_history.changes (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, xid xid8 NOT NULL, at timestamptz NOT NULL,
    relation text NOT NULL, operation text NOT NULL, old jsonb, new jsonb, presented boolean NOT NULL, caller text,
    backend integer NOT NULL
);
CREATE TABLE tickover_history.commits (
    number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, xid xid8 NOT NULL UNIQUE
);
CREATE FUNCTION tickover_history.brief(found jsonb) RETURNS jsonb LANGUAGE sql IMMUTABLE AS $$
    SELECT jsonb_object_agg(key, CASE WHEN key = ANY ('{{{",".join(_DOCUMENTS)}}}') AND value <> 'null'
        THEN to_jsonb(encode(sha256(convert_to(value #>> '{{}}', 'UTF8')), 'hex')) ELSE value END)
    FROM jsonb_each(found)
$$;
-- A statement carries the token that its caller presents as a literal, and is the statement of the client also within
-- functions: so it shows whether whoever changes a row knows the token that the row has.
CREATE FUNCTION tickover_history.note() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    v_old jsonb := CASE WHEN TG_OP <> 'INSERT' THEN tickover_history.brief(to_jsonb(OLD)) END;
    v_new jsonb := CASE WHEN TG_OP <> 'DELETE' THEN tickover_history.brief(to_jsonb(NEW)) END;
    v_token text := coalesce(v_old ->> 'token', v_old ->> 'runner_token');
BEGIN
    INSERT INTO tickover_history.changes (xid, at, relation, operation, old, new, presented, caller, backend)
    VALUES (pg_current_xact_id(), clock_timestamp(), TG_TABLE_NAME, lower(TG_OP), v_old, v_new,
            coalesce(position(v_token IN current_query()) > 0, false),
            substring(current_query() FROM 'tickover_[a-z]+'), pg_backend_pid());
    RETURN NULL;
END $$;
CREATE FUNCTION tickover_history.number() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock({_NUMBERING_LOCK});
    INSERT INTO tickover_history.commits (xid) VALUES (NEW.xid) ON CONFLICT DO NOTHING;
    RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER number AFTER INSERT ON tickover_history.changes DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION tickover_history.number();
INSERT INTO tickover_history.changes (xid, at, relation, operation, new, presented, backend)
    SELECT pg_current_xact_id(), clock_timestamp(), 'route', 'found', to_jsonb(r), false, pg_backend_pid()
    FROM route r;
"""
_TRIGGERS = """
CREATE TRIGGER note_history AFTER INSERT OR DELETE ON {table} FOR EACH ROW EXECUTE FUNCTION tickover_history.note();
CREATE TRIGGER note_history_update AFTER UPDATE ON {table} FOR EACH ROW WHEN ({when})
    EXECUTE FUNCTION tickover_history.note();
"""
_READ = """
SELECT c.number, n.relation, n.operation, n.old, n.new, n.presented, n.caller, n.backend
FROM tickover_history.changes n JOIN tickover_history.commits c USING (xid) ORDER BY c.number, n.id
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Change:
    """One row that a transaction changed; immutable.

    commit: the number of the transaction, in commit order. relation: the table. operation: insert, update, delete, or
    found (it was there when the watch began). old, new: the row before and after, documents as digests. presented:
    whether the statement carried the token that the row had. caller: the engine's function that the statement called.
    backend: the process of the session.
    """

    commit: int
    relation: str
    operation: str
    old: Mapping[str, Any] | None = None
    new: Mapping[str, Any] | None = None
    presented: bool = False
    caller: str | None = None
    backend: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Note:
    """A line of a notebook; immutable.

    kind: delivered (a receiver got an effect), legacy-began and legacy-ended (the old system acted), told (somebody
    was told that a tick is over). key: run and effect key, as receivers get it. payload, state: digests.
    """

    kind: str
    run: str | None = None
    tick: int | None = None
    key: str | None = None
    payload: str | None = None
    state: str | None = None
    owner: str | None = None
    outcome: str | None = None


class Notebook:
    """A file of notes that any number of processes append to. A note that was written survives its writer."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, note: Note) -> None:
        """Append a note; it is on disk when this returns."""
        document = {name: value for name in Note.__slots__ if (value := getattr(note, name)) is not None}
        handle = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        try:
            # One write each, of a line that begins with its newline: one that was cut short spoils no other.
            os.write(handle, b"\n" + json.dumps(document).encode())
            os.fsync(handle)
        finally:
            os.close(handle)

    def delivered(self, effect: Effect, key: str) -> None:
        """Note that a receiver got an effect under a key: what a workload's `deliver` is given."""
        self.write(Note(kind="delivered", key=key, payload=digest(effect.payload)))

    def legacy_began(self, run: str, tick: int, state: Any = None) -> None:
        """Note that the old system begins a tick. state: the document it begins with, None if that is not known."""
        self.write(Note(kind="legacy-began", run=run, tick=tick, state=None if state is None else digest(state)))

    def legacy_ended(self, run: str, tick: int) -> None:
        """Note that the old system has done a tick."""
        self.write(Note(kind="legacy-ended", run=run, tick=tick))

    def told(self, run: str, tick: int, owner: str, outcome: str) -> None:
        """Note that somebody was told that a tick is over."""
        self.write(Note(kind="told", run=run, tick=tick, owner=owner, outcome=outcome))

    def read(self) -> list[Note]:
        """All notes. Raises ConfigurationError for a line that is none."""
        if not self.path.exists():
            return []
        found = []
        for number, line in enumerate(self.path.read_text(encoding="utf-8").splitlines(), 1):
            if line:
                try:
                    found.append(Note(**json.loads(line)))
                except (ValueError, TypeError) as error:
                    raise ConfigurationError(f"{self.path}, line {number} is no note: {error}") from error
        return found


@dataclass(frozen=True, kw_only=True, slots=True)
class History:
    """All that a ledger has; immutable. changes: in commit order, within a commit in the order they were made."""

    changes: tuple[Change, ...]
    notes: tuple[Note, ...] = ()


def watch(url: str) -> None:
    """Note each change of the engine's tables in the database at `url` from now on. What was noted before is
    forgotten. Commits are made one after the other while it lasts."""
    _run(url, _UNWATCH, _SCHEMA, *(_TRIGGERS.format(table=table, when=when) for table, when in _WATCHED.items()))


def unwatch(url: str) -> None:
    """Stop noting, and forget what was noted."""
    _run(url, _UNWATCH)


_UNWATCH = "DROP SCHEMA IF EXISTS tickover_history CASCADE;"


def read_history(url: str, notebooks: Iterable[Notebook] = ()) -> History:
    """What was noted since `watch`, and in the notebooks."""
    with (
        closing(connect_raw(url, application_name="tickover ledger")) as connection,
        connection,
        connection.cursor() as do,
    ):
        do.execute(_READ)
        changes = tuple(
            Change(
                commit=row[0], relation=row[1], operation=row[2], old=row[3], new=row[4], presented=row[5],
                caller=row[6], backend=row[7],
            )
            for row in do.fetchall()
        )  # fmt: skip
    return History(changes=changes, notes=tuple(note for book in notebooks for note in book.read()))


_STORY = """
SELECT to_char(n.at, 'HH24:MI:SS.MS'), c.number, n.relation, n.operation, n.caller, n.backend, n.presented,
       coalesce(n.new, n.old) ->> 'step', n.old ->> 'status', n.new ->> 'status',
       n.old ->> 'owner', n.new ->> 'owner', (n.old ->> 'lease_until')::timestamptz - n.at, n.new ->> 'error'
FROM tickover_history.changes n JOIN tickover_history.commits c USING (xid)
WHERE n.relation IN ('workflows', 'step_runs', 'ticks') AND (
    ((n.new ->> 'run') = %(run)s AND (n.new ->> 'tick')::integer = %(tick)s)
    OR (n.new ->> 'workflow_id')::bigint IN (SELECT id FROM workflows WHERE run = %(run)s AND tick = %(tick)s))
ORDER BY c.number, n.id
"""


def tell_story(url: str, run: str, tick: int) -> list[str]:
    """What was noted of a tick, one line a change, for people who look for a cause: when, by whom, from which status
    to which, whose step it was, and how much of its lease was left."""
    with closing(connect_raw(url, application_name="tickover ledger")) as connection, connection.cursor() as do:
        do.execute(_STORY, {"run": run, "tick": tick})
        return [
            f"{at} commit {commit} {relation} {operation} by {caller or 'a statement'} of session {backend}"
            f"{' with its token' if presented else ''}: {step or ''} {before} -> {after}, owner {owner} -> {heir}"
            f"{'' if lease is None else f', lease left {lease.total_seconds():.2f} s'}{f', {error}' if error else ''}"
            for at, commit, relation, operation, caller, backend, presented, step, before, after, owner, heir, lease,
            error in do.fetchall()
        ]  # fmt: skip


def _run(url: str, *statements: str) -> None:
    with (
        closing(connect_raw(url, application_name="tickover ledger")) as connection,
        connection,
        connection.cursor() as do,
    ):
        for statement in statements:
            do.execute(statement)
