-- Totals that are not what a direct query finds in the orders, with what was kept and what the partition of the batch $1 has
-- as its result; days without orders must be skipped.
WITH wanted AS (
    SELECT c.customer, d.day::date AS day, count(o.id)::int AS orders, coalesce(sum(o.cents), 0)::bigint AS cents
    FROM execution b
    CROSS JOIN jsonb_array_elements_text(b.params -> 'users') c(customer)
    CROSS JOIN generate_series((b.params ->> 'first')::timestamp, (b.params ->> 'last')::timestamp, interval '1 day') d(day)
    LEFT JOIN demo.orders o ON o.customer = c.customer AND o.day = d.day::date
    WHERE b.id = $1 GROUP BY c.customer, d.day
), told AS (
    SELECT e.params ->> 'user' AS customer, (e.params ->> 'day')::date AS day, e.status, (e.result ->> 'orders')::int AS orders,
           (e.result ->> 'cents')::bigint AS cents
    FROM execution e WHERE e.parent_id = $1 AND e.child_key <> '$plan'
)
SELECT coalesce(w.customer, k.customer) || ' ' || coalesce(w.day, k.day) AS subject,
       format('wanted %s orders of %s, kept %s of %s, told %s of %s by what is %s', w.orders, w.cents, k.orders, k.cents, t.orders,
              t.cents, t.status) AS detail
FROM wanted w
FULL JOIN demo.daily_total k ON k.customer = w.customer AND k.day = w.day
LEFT JOIN told t ON t.customer = w.customer AND t.day = w.day
WHERE CASE WHEN w.orders > 0 THEN (k.orders, k.cents, t.orders, t.cents, t.status)
                                  IS DISTINCT FROM (w.orders, w.cents, w.orders, w.cents, 'completed'::status)
           ELSE k.orders IS NOT NULL OR t.status IS DISTINCT FROM 'skipped'::status END
ORDER BY 1
