-- What rules hid of a tick, beside what is counted of it: with it a verdict can be computed without rules, step by step,
-- or without those whose day has passed. Text: equal cases have equal texts and are counted together.

ALTER TABLE tick_evidence ADD COLUMN hidden text;

-- A comparison that an older version stored names its rules and not the steps: of those the whole tick is known alone.
CREATE FUNCTION evidence_hidden(document text) RETURNS text LANGUAGE sql IMMUTABLE AS $$
    SELECT coalesce(
        document::json ->> 'hidden',
        CASE WHEN document::json ->> 'kind' IN ('tolerated', 'improved') AND evidence_rules(document) IS NOT NULL
            THEN json_build_object('kind', 'mismatch', 'steps', json_build_object('(no attribution)',
                json_build_object('rules', to_json(evidence_rules(document)))))::text END)
$$;

CREATE OR REPLACE FUNCTION keep_tick_evidence() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP IN ('UPDATE', 'DELETE') THEN
        DELETE FROM tick_evidence WHERE run = OLD.run AND tick = OLD.tick;
    END IF;
    IF TG_OP IN ('INSERT', 'UPDATE') THEN
        INSERT INTO tick_evidence VALUES (
            NEW.run, NEW.tick, NEW.kind, NEW.stratum, NEW.control_outcome, NEW.candidate_outcome,
            NEW.control_gave_up, NEW.candidate_gave_up, NEW.control_ms, NEW.candidate_ms,
            evidence_steps(NEW.steps), evidence_rules(NEW.document), NEW.created_at, evidence_hidden(NEW.document)
        );
    END IF;
    RETURN NULL;
END
$$;

UPDATE tick_evidence AS e SET hidden = evidence_hidden(c.document)
FROM shadow_comparisons AS c WHERE c.run = e.run AND c.tick = e.tick AND e.rules IS NOT NULL;
