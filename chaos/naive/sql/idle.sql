-- For how many seconds nothing has moved; while nothing moved ever, none.
SELECT coalesce(extract(epoch FROM clock_timestamp() - max(at)), 0)::float8 AS seconds FROM job_move
