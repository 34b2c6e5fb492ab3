-- The total of the customer $1 on the day $2, kept unless a later attempt of the same execution ($3, attempt $4) has kept its
-- own. A killed worker's statement may still be under way in the database when another worker makes the next attempt.
WITH total AS (
    SELECT count(*)::int AS orders, coalesce(sum(cents), 0)::bigint AS cents
    FROM demo.orders WHERE customer = $1 AND day = $2::date
), kept AS (
    INSERT INTO demo.daily_total AS t (customer, day, orders, cents, execution_id, attempt)
    SELECT $1, $2::date, orders, cents, $3, $4 FROM total WHERE orders > 0
    ON CONFLICT (customer, day) DO UPDATE
    SET orders = excluded.orders, cents = excluded.cents, execution_id = excluded.execution_id, attempt = excluded.attempt
    WHERE t.execution_id <> excluded.execution_id OR t.attempt <= excluded.attempt
    RETURNING 1
)
SELECT orders, cents, EXISTS (SELECT 1 FROM kept) AS kept FROM total
