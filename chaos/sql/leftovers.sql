-- What is left of these executions once all have ended: slots, places, timers. And messages of anybody.
SELECT (SELECT count(*) FROM slot WHERE execution_id = ANY($1)) + (SELECT count(*) FROM in_flight WHERE execution_id = ANY($1))
       + (SELECT count(*) FROM timer WHERE execution_id = ANY($1)) + (SELECT count(*) FROM waiting WHERE execution_id = ANY($1))
       + (SELECT count(*) FROM outbox) AS n
