-- Who is connected to this database, by name.
SELECT application_name AS name, count(*)::int AS n FROM pg_stat_activity
WHERE datname = current_database() AND backend_type = 'client backend' GROUP BY application_name
