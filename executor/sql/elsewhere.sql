-- Of these moves, told by messages: where the rows stand that do not stand there. At most what was told comes back.
SELECT t.n, e.status::text AS status, e.attempt, e.epoch
FROM unnest($1::uuid[], $2::text[]::status[], $3::int[], $4::int[]) WITH ORDINALITY t(id, target, attempt, epoch, n)
LEFT JOIN execution e ON e.id BETWEEN t.id AND t.id
WHERE (e.status, e.attempt, e.epoch) IS DISTINCT FROM (t.target, t.attempt, t.epoch)
