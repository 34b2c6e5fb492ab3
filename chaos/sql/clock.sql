-- The time, in seconds of the epoch.
SELECT extract(epoch FROM clock_timestamp())::float8 AS now
