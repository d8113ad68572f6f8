"""The statements by which the engine calls its functions in PostgreSQL, one round trip each."""

START = (
    "SELECT created, known_hash, ready FROM "
    "tickover_start(%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s::json)"
)
CLAIM = "SELECT * FROM tickover_claim(%s, %s, %s::uuid, %s, %s, %s)"
COMPLETE = (
    "SELECT * FROM tickover_complete(%s, %s, %s::uuid, %s, %s, %s, %s::json, %s, %s, %s::json, %s::uuid, %s::text[])"
)
RETRY = "SELECT tickover_retry(%s, %s, %s::uuid, %s, %s, %s)"
RENEW = "SELECT tickover_renew(%s::uuid[], %s)"
# A worker that came or went may have taken hints with it: what waits is hinted at once, not after a doubled wait.
HINT_AGAIN = (
    "UPDATE step_runs s SET hint_due = clock_timestamp(), hints = 0 FROM (SELECT workflow_id, step FROM step_runs "
    "WHERE status = 'ready' AND hints > 0 AND run_at <= clock_timestamp() FOR UPDATE SKIP LOCKED) AS waiting "
    "WHERE s.workflow_id = waiting.workflow_id AND s.step = waiting.step"
)
SWEEP = "SELECT * FROM tickover_sweep(%s::integer[], %s, %s)"

# What became of a step of which this process no longer knows whether its commit arrived.
READ_STEP = "SELECT status, token::text FROM step_runs WHERE workflow_id = %s AND step = %s"

# The class of the advisory locks that say "this worker process lives"; the second key is the owner's number.
OWNER_CLASS = 731_652_902
LOCK_OWNER = f"SELECT pg_try_advisory_lock({OWNER_CLASS}, %s)"
# Since when PostgreSQL takes sessions: since its start, or since a crash of one session made it end all others and
# recover, of which the time of its start tells nothing.
UP_SINCE = """greatest(pg_postmaster_start_time(),
    (SELECT max(backend_start) FROM pg_stat_activity WHERE backend_type = 'checkpointer'))"""
# Owners of running steps whose lock is missing; nothing is reported until PostgreSQL has been up for 3 s, so that
# living workers have time to connect again after its restart.
MISSING_OWNERS = f"""
SELECT DISTINCT s.owner FROM step_runs s
WHERE s.status = 'running' AND s.owner IS NOT NULL AND clock_timestamp() - {UP_SINCE} > interval '3 s'
AND NOT EXISTS (SELECT 1 FROM pg_locks l WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 2
                AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
                AND l.classid = {OWNER_CLASS}::oid AND l.objid::bigint = s.owner)
"""
