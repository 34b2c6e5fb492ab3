-- The toy's one table, and the auditor's own history of it: written by a trigger, whatever the toy thinks it did.
CREATE TABLE job (id uuid PRIMARY KEY, key text NOT NULL, status text NOT NULL);;
CREATE TABLE job_move (position bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, id uuid NOT NULL, source text,
                       target text NOT NULL, at timestamptz NOT NULL DEFAULT clock_timestamp());;
CREATE FUNCTION note_move() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO job_move (id, source, target) VALUES (new.id, CASE tg_op WHEN 'UPDATE' THEN old.status END, new.status);
    RETURN NULL;
END $$;;
CREATE TRIGGER job_moved AFTER INSERT OR UPDATE ON job FOR EACH ROW EXECUTE FUNCTION note_move()
