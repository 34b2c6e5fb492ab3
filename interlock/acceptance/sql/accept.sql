-- Lanes and acceptance in one round trip: $6 holds the number of each request's lane, $21 to $30 what make_lanes is told.
SELECT a.accepted, a.refused, a.refusal, a.messages, a.more
FROM (SELECT make_lanes($21, $22, $23, $24, $25, $26, $27, $28, $29, $30) AS ids OFFSET 0) made
CROSS JOIN LATERAL accept(
    $1, $2, $3, $4, $5, ARRAY(SELECT made.ids[u.lane] FROM unnest($6::int[]) WITH ORDINALITY u(lane, n) ORDER BY u.n),
    $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20) a
