-- Send again and mark, in one: the mark without the message would lose it, the message without the mark would repeat it.
WITH sent AS (
    INSERT INTO outbox (role, exchange, routing_key, events, body)
    SELECT role, exchange, routing_key, events, body
    FROM unnest($2::text[], $3::text[], $4::text[], $5::int[], $6::text[]) r(role, exchange, routing_key, events, body)
)
UPDATE poison_message SET replayed_at = now() WHERE id = ANY($1::bigint[]) AND replayed_at IS NULL
