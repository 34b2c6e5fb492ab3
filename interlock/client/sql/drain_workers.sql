-- Tell incarnations to take nothing more: executors dispatch nothing to them from now on, and their next renewal says it.
WITH told AS (
    SELECT id FROM worker WHERE id = ANY($1) AND ended_at IS NULL AND NOT draining ORDER BY id FOR UPDATE
)
UPDATE worker w SET draining = true FROM told t WHERE w.id = t.id
