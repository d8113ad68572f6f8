-- What a report counts, one narrow row a tick: the comparisons themselves carry documents, and reading a million of
-- them takes minutes. Rows follow shadow_comparisons by trigger, so whoever writes a comparison keeps them equal.

ALTER TABLE shadow_comparisons ADD COLUMN candidate_gave_up boolean NOT NULL DEFAULT false;

CREATE TABLE tick_evidence (
    run text NOT NULL,
    tick integer NOT NULL,
    kind text NOT NULL,
    stratum text,
    control_outcome text,
    candidate_outcome text,
    control_gave_up boolean NOT NULL,
    candidate_gave_up boolean NOT NULL,
    control_ms double precision,
    candidate_ms double precision,
    -- One letter a step, steps in the order of their bytes: E equal, D differs, C consequence, N not applicable,
    -- - not compared.
    steps text NOT NULL,
    -- Names of the rules that hid something; null where none did.
    rules text[],
    compared_at timestamptz NOT NULL,
    PRIMARY KEY (run, tick)
);

-- Episodes and lists of ticks read only the ticks that are no plain match.
CREATE INDEX ix_tick_evidence_unequal ON tick_evidence (run, tick) INCLUDE (kind) WHERE kind <> 'match';

CREATE FUNCTION evidence_steps(steps text) RETURNS text LANGUAGE sql IMMUTABLE AS $$
    SELECT coalesce(string_agg(
        CASE value ->> 0 WHEN 'equal' THEN 'E' WHEN 'differs' THEN 'D' WHEN 'consequence' THEN 'C'
            WHEN 'not_applicable' THEN 'N' ELSE '-' END,
        '' ORDER BY key COLLATE "C"), '')
    FROM json_each(steps::json)
$$;

CREATE FUNCTION evidence_rules(document text) RETURNS text[] LANGUAGE sql IMMUTABLE AS $$
    SELECT array_agg(DISTINCT tolerance ->> 'rule')
    FROM json_array_elements(coalesce(document::json -> 'tolerances', '[]'::json)) AS tolerance
$$;

CREATE FUNCTION keep_tick_evidence() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP IN ('UPDATE', 'DELETE') THEN
        DELETE FROM tick_evidence WHERE run = OLD.run AND tick = OLD.tick;
    END IF;
    IF TG_OP IN ('INSERT', 'UPDATE') THEN
        INSERT INTO tick_evidence VALUES (
            NEW.run, NEW.tick, NEW.kind, NEW.stratum, NEW.control_outcome, NEW.candidate_outcome,
            NEW.control_gave_up, NEW.candidate_gave_up, NEW.control_ms, NEW.candidate_ms,
            evidence_steps(NEW.steps), evidence_rules(NEW.document), NEW.created_at
        );
    END IF;
    RETURN NULL;
END
$$;

CREATE TRIGGER keep_tick_evidence AFTER INSERT OR UPDATE OR DELETE ON shadow_comparisons
    FOR EACH ROW EXECUTE FUNCTION keep_tick_evidence();

INSERT INTO tick_evidence
SELECT run, tick, kind, stratum, control_outcome, candidate_outcome, control_gave_up, candidate_gave_up, control_ms,
    candidate_ms, evidence_steps(steps), evidence_rules(document), created_at
FROM shadow_comparisons;

-- Every verdict that was given on new evidence, with all that it takes to compute it again.
CREATE TABLE verdicts (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    run text NOT NULL,
    behaviour_key text NOT NULL,
    judgement_key text NOT NULL,
    policy_name text NOT NULL,
    status text NOT NULL,
    inputs text NOT NULL,
    inputs_digest text NOT NULL,
    outcome text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX ix_verdicts_run ON verdicts (run, id);
CREATE INDEX ix_verdicts_keys ON verdicts (behaviour_key, judgement_key, status);
