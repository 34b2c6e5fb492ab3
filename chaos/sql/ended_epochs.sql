-- Which of these have ended, and in which epoch.
SELECT id, epoch FROM execution WHERE id = ANY($1) AND is_terminal(status)
