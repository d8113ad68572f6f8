-- The engine's tables and functions. Documents are canonical JSON in text columns: jsonb would alter numbers.

CREATE TABLE workflows (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    execution_id text NOT NULL UNIQUE,
    run text NOT NULL,
    tick integer NOT NULL,
    system text NOT NULL,
    purpose text NOT NULL,
    pass integer NOT NULL,
    workflow text NOT NULL,
    version text NOT NULL,
    input text NOT NULL,
    input_hash text NOT NULL,
    state text NOT NULL,
    harness text,
    started_at timestamptz NOT NULL,
    time_scale double precision NOT NULL,
    status text NOT NULL,
    error text,
    created_at timestamptz NOT NULL,
    finished_at timestamptz
);
CREATE INDEX ix_workflows_run_tick ON workflows (run, tick);
CREATE INDEX ix_workflows_running ON workflows (id) WHERE status = 'running';

CREATE TABLE step_runs (
    workflow_id bigint NOT NULL REFERENCES workflows (id) ON DELETE CASCADE,
    step text NOT NULL,
    position integer NOT NULL,
    queue text NOT NULL,
    critical boolean NOT NULL,
    needs text[] NOT NULL,
    phase text NOT NULL,
    status text NOT NULL,
    attempt integer NOT NULL,
    recoveries integer NOT NULL,
    token uuid,
    owner integer,
    lease_until timestamptz,
    deadline timestamptz,
    run_at timestamptz,
    hint_due timestamptz,
    hints integer NOT NULL,
    started_at timestamptz,
    finished_at timestamptz,
    error text,
    diverged text[],
    PRIMARY KEY (workflow_id, step)
) WITH (fillfactor = 70);
CREATE INDEX ix_step_runs_hint_due ON step_runs (hint_due) WHERE status = 'ready';
CREATE INDEX ix_step_runs_running ON step_runs (lease_until) WHERE status = 'running';

CREATE TABLE workflow_checkpoints (
    workflow_id bigint NOT NULL REFERENCES workflows (id) ON DELETE CASCADE,
    stage text NOT NULL,
    tick_number integer NOT NULL,
    state text NOT NULL,
    created_at timestamptz NOT NULL,
    PRIMARY KEY (workflow_id, stage)
);

CREATE TABLE effects (
    workflow_id bigint NOT NULL REFERENCES workflows (id) ON DELETE CASCADE,
    position integer NOT NULL,
    number integer NOT NULL,
    step text NOT NULL,
    kind text NOT NULL,
    key text NOT NULL,
    payload text NOT NULL,
    PRIMARY KEY (workflow_id, position, number)
);

CREATE TABLE ticks (
    run text NOT NULL,
    tick integer NOT NULL,
    owner text NOT NULL,
    runner_token uuid NOT NULL,
    epoch bigint NOT NULL,
    execution_id text NOT NULL,
    outcome text,
    overran boolean NOT NULL DEFAULT false,
    claimed_at timestamptz NOT NULL DEFAULT now(),
    adopted_at timestamptz,
    PRIMARY KEY (run, tick)
);

CREATE TABLE states (
    run text NOT NULL,
    tick integer NOT NULL,
    document text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (run, tick)
);

CREATE TABLE outbox (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    run text NOT NULL,
    tick integer NOT NULL,
    step text NOT NULL,
    position integer NOT NULL,
    number integer NOT NULL,
    kind text NOT NULL,
    key text NOT NULL,
    payload text NOT NULL,
    attempts integer NOT NULL DEFAULT 0,
    error text,
    delivered_at timestamptz,
    UNIQUE (run, tick, step, key)
);
CREATE INDEX ix_outbox_pending ON outbox (id) WHERE delivered_at IS NULL;

CREATE TABLE route (
    id integer PRIMARY KEY CHECK (id = 1),
    owner text NOT NULL,
    epoch bigint NOT NULL,
    holds integer NOT NULL,
    author text NOT NULL,
    reason text NOT NULL,
    changed_at timestamptz NOT NULL DEFAULT now()
);
INSERT INTO route (id, owner, epoch, holds, author, reason) VALUES (1, 'legacy', 1, 0, 'tickover', 'as installed');

-- Start an execution once. `steps` is a JSON array of {step, position, queue, critical, needs}.
CREATE FUNCTION tickover_start(
    p_execution text, p_run text, p_tick integer, p_system text, p_purpose text, p_pass integer, p_workflow text,
    p_version text, p_input text, p_input_hash text, p_state text, p_harness text, p_started_at timestamptz,
    p_time_scale double precision, p_steps json,
    OUT created boolean, OUT known_hash text, OUT ready text[]
) LANGUAGE plpgsql AS $$
DECLARE v_id bigint;
BEGIN
    INSERT INTO workflows (execution_id, run, tick, system, purpose, pass, workflow, version, input, input_hash, state,
                           harness, started_at, time_scale, status, created_at)
    VALUES (p_execution, p_run, p_tick, p_system, p_purpose, p_pass, p_workflow, p_version, p_input, p_input_hash,
            p_state, p_harness, p_started_at, p_time_scale, 'running', clock_timestamp())
    ON CONFLICT (execution_id) DO NOTHING RETURNING id INTO v_id;
    IF v_id IS NULL THEN
        created := false;
        SELECT w.id, w.input_hash INTO v_id, known_hash FROM workflows w WHERE w.execution_id = p_execution;
        ready := ARRAY(SELECT s.step FROM step_runs s WHERE s.workflow_id = v_id AND s.status = 'ready'
                       AND s.run_at <= clock_timestamp() ORDER BY s.position);
        RETURN;
    END IF;
    created := true;
    known_hash := p_input_hash;
    INSERT INTO step_runs (workflow_id, step, position, queue, critical, needs, phase, status, attempt, recoveries,
                           run_at, hint_due, hints)
    SELECT v_id, s.step, s.position, s.queue, s.critical, s.needs, 'run',
           CASE WHEN cardinality(s.needs) = 0 THEN 'ready' ELSE 'waiting' END, 0, 0,
           CASE WHEN cardinality(s.needs) = 0 THEN clock_timestamp() END,
           CASE WHEN cardinality(s.needs) = 0 THEN clock_timestamp() + interval '2 seconds' END, 0
    FROM json_to_recordset(p_steps) AS s (step text, position integer, queue text, critical boolean, needs text[]);
    ready := ARRAY(SELECT s.step FROM step_runs s WHERE s.workflow_id = v_id AND s.status = 'ready' ORDER BY s.position);
END $$;

-- What a claimed step works on: results of its needs, and why a need has none.
CREATE FUNCTION tickover_needs(p_id bigint, p_needs text[], OUT results text, OUT absent text)
LANGUAGE plpgsql STABLE AS $$
BEGIN
    SELECT coalesce('{' || string_agg(to_json(c.stage)::text || ':' || c.state, ',') || '}', '{}') INTO results
    FROM workflow_checkpoints c WHERE c.workflow_id = p_id AND c.stage = ANY (p_needs);
    SELECT coalesce(json_object_agg(s.step, CASE s.status WHEN 'not_applicable' THEN 'not applicable'
                                            ELSE coalesce(s.error, s.status) END)::text, '{}') INTO absent
    FROM step_runs s WHERE s.workflow_id = p_id AND s.step = ANY (p_needs) AND s.status <> 'done';
END $$;

-- Claim a step with a token. No row: there is nothing to claim. `limit_s`: from now to the absolute deadline.
CREATE FUNCTION tickover_claim(
    p_execution text, p_step text, p_token uuid, p_owner integer, p_lease_s double precision, p_limit_s double precision
) RETURNS TABLE (
    workflow_id bigint, run text, tick integer, workflow text, version text, input text, state text, harness text,
    started_at timestamptz, time_scale double precision, attempt integer, phase text, failure text, results text,
    absent text
) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE v_id bigint; v_step step_runs; v_now timestamptz := clock_timestamp();
BEGIN
    SELECT w.id INTO v_id FROM workflows w WHERE w.execution_id = p_execution AND w.status = 'running';
    IF v_id IS NULL THEN RETURN; END IF;
    UPDATE step_runs s SET status = 'running', attempt = s.attempt + (s.phase = 'run')::integer, token = p_token,
           owner = p_owner, deadline = v_now + make_interval(secs => p_limit_s),
           lease_until = v_now + make_interval(secs => least(p_lease_s, p_limit_s)),
           started_at = v_now, hint_due = NULL, hints = 0
    WHERE s.workflow_id = v_id AND s.step = p_step AND s.status = 'ready' AND s.run_at <= v_now
    RETURNING * INTO v_step;
    IF NOT FOUND THEN RETURN; END IF;
    -- Losing a claim to a crash of the database costs a repetition that the fence allows for.
    PERFORM set_config('synchronous_commit', 'off', true);
    RETURN QUERY SELECT w.id, w.run, w.tick, w.workflow, w.version, w.input, w.state, w.harness, w.started_at,
           w.time_scale, v_step.attempt, v_step.phase, v_step.error, n.results, n.absent
    FROM workflows w, tickover_needs(v_id, v_step.needs) n WHERE w.id = v_id;
END $$;

-- Finish a step: check the fence, write checkpoint and effects, derive what became ready, and, where asked, claim one
-- ready step of `p_next` (a JSON object: step -> limit in seconds) with `p_next_token` in the same transaction.
CREATE FUNCTION tickover_complete(
    p_workflow bigint, p_step text, p_token uuid, p_status text, p_result text, p_error text, p_effects json,
    p_owner integer, p_lease_s double precision, p_next json, p_next_token uuid, p_diverged text[],
    OUT accepted boolean, OUT ready text[], OUT next_step text, OUT next_attempt integer, OUT next_phase text,
    OUT next_failure text, OUT next_results text, OUT next_absent text
) LANGUAGE plpgsql AS $$
DECLARE v_workflow workflows; v_step step_runs; v_next step_runs; v_now timestamptz;
BEGIN
    PERFORM set_config('synchronous_commit', 'on', true);
    accepted := false;
    ready := '{}';
    SELECT * INTO v_workflow FROM workflows w WHERE w.id = p_workflow FOR NO KEY UPDATE;
    v_now := clock_timestamp();
    UPDATE step_runs s SET status = p_status, token = NULL, owner = NULL, lease_until = NULL, finished_at = v_now,
           error = p_error, hint_due = NULL, diverged = p_diverged
    WHERE s.workflow_id = p_workflow AND s.step = p_step AND s.status = 'running' AND s.token = p_token
          AND v_workflow.status = 'running'
    RETURNING * INTO v_step;
    IF NOT FOUND THEN RETURN; END IF;
    accepted := true;
    IF p_status = 'done' THEN
        INSERT INTO workflow_checkpoints (workflow_id, tick_number, stage, state, created_at)
        VALUES (p_workflow, v_workflow.tick, p_step, p_result, v_now);
        INSERT INTO effects (workflow_id, position, number, step, kind, key, payload)
        SELECT p_workflow, e.position, e.number, e.step, e.kind, e.key, e.payload
        FROM json_to_recordset(p_effects) AS e (position integer, number integer, step text, kind text, key text,
                                                payload text);
    END IF;
    IF p_status = 'failed' AND v_step.critical THEN
        UPDATE step_runs s SET status = 'cancelled', token = NULL, hint_due = NULL
        WHERE s.workflow_id = p_workflow AND s.status IN ('waiting', 'ready', 'running');
        UPDATE workflows w SET status = 'failed', error = p_step || ': ' || coalesce(p_error, ''), finished_at = v_now
        WHERE w.id = p_workflow;
        PERFORM pg_notify('tickover', v_workflow.execution_id);
        RETURN;
    END IF;
    WITH readied AS (
        UPDATE step_runs s SET status = 'ready', run_at = v_now, hint_due = v_now + interval '2 seconds', hints = 0
        WHERE s.workflow_id = p_workflow AND s.status = 'waiting' AND NOT EXISTS (
            SELECT 1 FROM step_runs n WHERE n.workflow_id = p_workflow AND n.step = ANY (s.needs)
            AND n.status IN ('waiting', 'ready', 'running'))
        RETURNING s.step, s.position)
    SELECT coalesce(array_agg(r.step ORDER BY r.position), '{}') INTO ready FROM readied r;
    IF cardinality(ready) = 0 AND NOT EXISTS (
        SELECT 1 FROM step_runs s WHERE s.workflow_id = p_workflow AND s.status IN ('waiting', 'ready', 'running')
    ) THEN
        UPDATE workflows w SET status = 'done', finished_at = v_now WHERE w.id = p_workflow;
        PERFORM pg_notify('tickover', v_workflow.execution_id);
        RETURN;
    END IF;
    IF p_next IS NOT NULL THEN
        -- Not only what became ready: a sibling that no one has claimed yet need not wait for its own hint to arrive.
        UPDATE step_runs s SET status = 'running', attempt = s.attempt + (s.phase = 'run')::integer,
               token = p_next_token, owner = p_owner,
               deadline = v_now + make_interval(secs => (p_next ->> s.step)::double precision),
               lease_until = v_now + make_interval(secs => least(p_lease_s, (p_next ->> s.step)::double precision)),
               started_at = v_now, hint_due = NULL, hints = 0
        WHERE s.workflow_id = p_workflow AND s.step = (
            SELECT r.step FROM step_runs r WHERE r.workflow_id = p_workflow AND r.status = 'ready'
            AND r.run_at <= v_now AND p_next ->> r.step IS NOT NULL
            ORDER BY r.position LIMIT 1 FOR UPDATE SKIP LOCKED)
        RETURNING * INTO v_next;
        IF FOUND THEN
            next_step := v_next.step;
            next_attempt := v_next.attempt;
            next_phase := v_next.phase;
            next_failure := v_next.error;
            ready := array_remove(ready, v_next.step);
            SELECT n.results, n.absent INTO next_results, next_absent FROM tickover_needs(p_workflow, v_next.needs) n;
        END IF;
    END IF;
END $$;

-- Give a step back after a failed attempt: again after `p_wait_s`, or (p_fallback) to its fallback at once.
CREATE FUNCTION tickover_retry(
    p_workflow bigint, p_step text, p_token uuid, p_error text, p_wait_s double precision, p_fallback boolean
) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    PERFORM 1 FROM workflows w WHERE w.id = p_workflow FOR NO KEY UPDATE;
    UPDATE step_runs s SET status = 'ready', token = NULL, owner = NULL, lease_until = NULL, error = p_error,
           phase = CASE WHEN p_fallback THEN 'fallback' ELSE s.phase END, hints = 0,
           run_at = clock_timestamp() + make_interval(secs => p_wait_s),
           hint_due = clock_timestamp() + make_interval(secs => CASE WHEN p_fallback THEN 2 ELSE p_wait_s END)
    WHERE s.workflow_id = p_workflow AND s.step = p_step AND s.status = 'running' AND s.token = p_token;
    RETURN FOUND;
END $$;

-- Renew the leases of what a process executes now, never past a deadline. `p_tokens` are the tokens it holds. A step that
-- somebody changes at this moment is left to the next heartbeat: waiting for several of them could deadlock.
CREATE FUNCTION tickover_renew(p_tokens uuid[], p_lease_s double precision) RETURNS integer LANGUAGE plpgsql AS $$
DECLARE v_count integer;
BEGIN
    WITH held AS (
        SELECT s.workflow_id, s.step FROM step_runs s
        WHERE s.status = 'running' AND s.token = ANY (p_tokens) FOR UPDATE SKIP LOCKED)
    UPDATE step_runs s SET lease_until = least(s.deadline, clock_timestamp() + make_interval(secs => p_lease_s))
    FROM held WHERE s.workflow_id = held.workflow_id AND s.step = held.step;
    GET DIAGNOSTICS v_count = ROW_COUNT;
    RETURN v_count;
END $$;

-- Whether a running step has nobody any more: its owner is dead, or its lease is over. At its deadline an owner that
-- lives ends it by itself, as an attempt that failed: two seconds are left for that, or it would look like a recovery.
CREATE FUNCTION tickover_lost(p_step step_runs, p_dead integer[]) RETURNS boolean LANGUAGE sql AS $$
    SELECT p_step.owner = ANY (p_dead) OR p_step.lease_until < clock_timestamp()
           - CASE WHEN p_step.lease_until < p_step.deadline THEN interval '0' ELSE interval '2 seconds' END
$$;

-- One sweep: take steps from dead owners and expired leases, and name at most 100 steps whose hint is due.
CREATE FUNCTION tickover_sweep(p_dead integer[], p_limit integer, p_max_recoveries integer)
RETURNS TABLE (execution_id text, workflow text, step text, queue text, recovered boolean) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE v record; v_workflow bigint;
BEGIN
    -- What was taken from dead workers too often fails. A completion locks the execution before its steps; so does this,
    -- before it holds any step, and it waits for no execution: the next sweep finds what this one has skipped.
    FOR v_workflow IN
        SELECT w.id FROM workflows w WHERE w.status = 'running' AND w.id IN (
            SELECT s.workflow_id FROM step_runs s WHERE s.status = 'running' AND s.recoveries >= p_max_recoveries
            AND tickover_lost(s, p_dead))
        ORDER BY w.id LIMIT p_limit FOR NO KEY UPDATE SKIP LOCKED
    LOOP
        FOR v IN SELECT s.step, s.token, s.recoveries FROM step_runs s
                 WHERE s.workflow_id = v_workflow AND s.status = 'running' AND s.recoveries >= p_max_recoveries
                 AND tickover_lost(s, p_dead) ORDER BY s.position
        LOOP
            PERFORM tickover_complete(v_workflow, v.step, v.token, 'failed', NULL,
                                      'its worker died ' || v.recoveries + 1 || ' times', NULL, 0, 0, NULL, NULL, NULL);
        END LOOP;
    END LOOP;
    WITH lost AS (
        SELECT s.workflow_id, s.step FROM step_runs s
        WHERE s.status = 'running' AND s.recoveries < p_max_recoveries AND tickover_lost(s, p_dead)
        ORDER BY s.lease_until LIMIT p_limit FOR UPDATE SKIP LOCKED)
    UPDATE step_runs s SET status = 'ready', token = NULL, owner = NULL, lease_until = NULL,
           recoveries = s.recoveries + 1, attempt = greatest(s.attempt - (s.phase = 'run')::integer, 0),
           run_at = clock_timestamp(), hint_due = clock_timestamp(), hints = 0
    FROM lost WHERE s.workflow_id = lost.workflow_id AND s.step = lost.step;
    RETURN QUERY
    WITH due AS (
        SELECT s.workflow_id, s.step FROM step_runs s
        WHERE s.status = 'ready' AND s.hint_due <= clock_timestamp()
        ORDER BY s.hint_due LIMIT p_limit FOR UPDATE SKIP LOCKED)
    UPDATE step_runs s SET hints = s.hints + 1,
           hint_due = clock_timestamp() + make_interval(secs => least(60, 2 * 2 ^ least(s.hints, 10)))
    FROM due, workflows w
    WHERE s.workflow_id = due.workflow_id AND s.step = due.step AND w.id = s.workflow_id
    RETURNING w.execution_id, w.workflow, s.step, s.queue, s.recoveries > 0;
END $$;
