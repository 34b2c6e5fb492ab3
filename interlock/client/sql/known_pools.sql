-- Every name that is a worker pool's: an execution or action names it, or a worker serves it.
SELECT name FROM queue WHERE scope = 'pool'
UNION SELECT pool FROM worker WHERE ended_at IS NULL
UNION SELECT definition ->> 'pool' FROM action WHERE withdrawn_at IS NULL AND definition ? 'pool'
