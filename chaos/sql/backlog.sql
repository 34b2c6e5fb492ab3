-- What is on its way: messages to publish, places in lanes, timers, and how many deadlocks there ever were.
SELECT (SELECT count(*) FROM outbox)::int AS outbox, (SELECT count(*) FROM waiting)::int AS waiting,
       (SELECT count(*) FROM timer)::int AS timer,
       (SELECT deadlocks FROM pg_stat_database WHERE datname = current_database())::int AS deadlocks
