-- A key before its first execution, bounded as its definition says ($1 name, $2 template, then the bounds).
INSERT INTO queue (scope, name, template, lim, cap, cap_policy, rate_every, rate_burst, gated)
VALUES ('leaf', $1, $2, $3::int, $4, $5, $6::float8, $7, $3::int IS NOT NULL OR $6::float8 IS NOT NULL)
ON CONFLICT (scope, name) DO NOTHING
