-- Messages that were put aside and not replayed.
SELECT queue AS subject, format('%s: %s', reason, detail) AS detail, count(*) OVER () AS total
FROM poison_message WHERE replayed_at IS NULL
ORDER BY id DESC LIMIT 20
