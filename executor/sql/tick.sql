-- The reaper's memory of outages, kept in the database. After a gap nobody may be declared lost until every worker had a
-- lease period to renew. Where more than $3 workers stand, and the leases of more than a third of them have ended that
-- nobody has seen to yet, something else than the workers may be broken: a second tick must find the same, one lease later.
-- Returns what this tick found; `noticed` is told to one tick only.
WITH standing AS (
    SELECT count(*)::int AS workers, (count(*) FILTER (WHERE lease_expires_at < now()))::int AS expired
    FROM worker WHERE ended_at IS NULL
)
UPDATE reaper_tick t
SET ticked_at = now(),
    observe_until = CASE WHEN ticked_at < now() - $1 * interval '1 second' THEN now() + $2 * interval '1 second'
                         ELSE observe_until END,
    suspected_at = CASE WHEN s.workers > $3 AND s.expired * 3 > s.workers THEN coalesce(suspected_at, now()) END
FROM standing s
RETURNING coalesce(observe_until > now(), false) AS observing,
          coalesce(suspected_at > now() - $2 * interval '1 second', false) AS braking,
          suspected_at IS NOT DISTINCT FROM now() AS noticed, s.workers, s.expired
