-- All keys of this transaction at once, in the order of ids: those that these templates made. A key that a person named
-- before its action was there belongs to the action from now on.
SELECT id, name, coalesce(template, name) AS template FROM queue
WHERE scope = 'leaf' AND (template = ANY($1) OR (template IS NULL AND name = ANY($1))) ORDER BY id FOR UPDATE
