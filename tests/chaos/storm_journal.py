"""What the storm sees of the database, from inside: triggers that note each claim, adoption and move in their order.

The order is that of commits wherever the locks hold that the route promises; where an adoption commits, its route is
read once more, so that a move that slipped in shows.
"""

from __future__ import annotations

from typing import Any

JOURNAL = """
CREATE TABLE storm_journal (
    seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, at timestamptz NOT NULL DEFAULT clock_timestamp(),
    what text NOT NULL, tick integer, owner text, epoch bigint, route_epoch bigint, holds integer, backend integer,
    detail text);
CREATE FUNCTION storm_route() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO storm_journal (what, owner, epoch, holds, backend)
    VALUES ('route', NEW.owner, NEW.epoch, NEW.holds, pg_backend_pid());
    RETURN NULL;
END $$;
CREATE TRIGGER storm_route AFTER UPDATE ON route FOR EACH ROW EXECUTE FUNCTION storm_route();
CREATE FUNCTION storm_tick() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO storm_journal (what, tick, owner, epoch, route_epoch, backend, detail)
    SELECT TG_ARGV[0], NEW.tick, NEW.owner, NEW.epoch, r.epoch, pg_backend_pid(), NEW.outcome FROM route r;
    RETURN NULL;
END $$;
CREATE TRIGGER storm_claimed AFTER INSERT ON ticks FOR EACH ROW EXECUTE FUNCTION storm_tick('claimed');
CREATE TRIGGER storm_claimed_again AFTER UPDATE ON ticks FOR EACH ROW
WHEN (NEW.adopted_at IS NULL AND NEW.runner_token <> OLD.runner_token) EXECUTE FUNCTION storm_tick('claimed');
CREATE TRIGGER storm_adopted AFTER UPDATE ON ticks FOR EACH ROW
WHEN (NEW.adopted_at IS NOT NULL AND OLD.adopted_at IS NULL) EXECUTE FUNCTION storm_tick('adopted');
CREATE CONSTRAINT TRIGGER storm_commits AFTER UPDATE ON ticks DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
WHEN (NEW.adopted_at IS NOT NULL AND OLD.adopted_at IS NULL) EXECUTE FUNCTION storm_tick('commits');
"""


def note_fault(do: Any, what: str, detail: str) -> None:
    """Enter that a fault begins or ends; do: a cursor in autocommit."""
    do.execute("INSERT INTO storm_journal (what, detail) VALUES (%s, %s)", (what, detail))


def read_journal(do: Any) -> list[dict[str, Any]]:
    """All entries, in their order."""
    do.execute(
        "SELECT seq, what, tick, owner, epoch, route_epoch, holds, backend, detail FROM storm_journal ORDER BY seq"
    )
    names = [column.name for column in do.description]
    return [dict(zip(names, row, strict=True)) for row in do.fetchall()]
