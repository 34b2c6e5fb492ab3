-- The reaper's memory of outages, kept in the database. After a gap nobody may be declared lost until every worker had a
-- lease period to renew. Returns whether this tick only observes.
UPDATE reaper_tick
SET ticked_at = now(),
    observe_until = CASE WHEN ticked_at < now() - $1 * interval '1 second' THEN now() + $2 * interval '1 second'
                         ELSE observe_until END
RETURNING coalesce(observe_until > now(), false) AS observing
