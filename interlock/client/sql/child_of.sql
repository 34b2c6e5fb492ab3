-- Whose child an execution is, under which key.
SELECT parent_id, child_key FROM execution WHERE id = $1
