-- What the failed ones of these say, each text once.
SELECT DISTINCT action || ': ' || left(error::text, 300) AS text FROM execution WHERE id = ANY($1) AND status = 'failed'
