-- Which of these have ended or are told to stop.
SELECT id FROM execution WHERE id = ANY($1) AND status NOT IN ('requested', 'scheduled', 'running')
