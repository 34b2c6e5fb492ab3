-- Executions whose id lies between $1 and $2 (it begins so) or looks like $3 (it ends so). The beginning is a range of the
-- primary key; the end reads the ids of all.
SELECT id FROM execution WHERE id BETWEEN $1 AND $2
UNION
SELECT id FROM execution WHERE id::text LIKE $3
ORDER BY id DESC LIMIT $4
