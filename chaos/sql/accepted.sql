-- Which of these are accepted.
SELECT id FROM execution WHERE id = ANY($1)
