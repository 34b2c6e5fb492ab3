-- Keys with more slots than their limit, of which one was given since the limit last changed. What a lowered limit found
-- is older, and drains.
SELECT q.scope || ' ' || q.name AS subject, format('active is %s, the limit is %s', q.active, q.lim) AS detail,
       count(*) OVER () AS total
FROM queue q
WHERE q.active > q.lim AND EXISTS (SELECT 1 FROM slot s WHERE s.key_id = q.id AND s.since > q.limited_at)
ORDER BY 1 LIMIT 20
