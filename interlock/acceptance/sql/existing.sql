-- What already stands under these ids and idempotency keys.
SELECT e.id, e.request_hash, e.status::text AS status, NULL AS key FROM execution e WHERE e.id = ANY($1)
UNION ALL
SELECT k.execution_id, k.request_hash, e.status::text, k.key
FROM idempotency_key k JOIN execution e ON e.id BETWEEN k.execution_id AND k.execution_id WHERE k.key = ANY($2)
