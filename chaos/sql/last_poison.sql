-- The newest message that was put aside.
SELECT coalesce(max(id), 0) AS id FROM poison_message
