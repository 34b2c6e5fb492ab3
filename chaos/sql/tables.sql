-- Dead rows and size of each table, a partitioned one as the sum of its parts.
SELECT coalesce(i.inhparent::regclass::text, s.relid::regclass::text) AS name, sum(s.n_dead_tup)::int8 AS dead,
       sum(pg_total_relation_size(s.relid))::int8 AS bytes
FROM pg_stat_user_tables s LEFT JOIN pg_inherits i ON i.inhrelid = s.relid
WHERE NOT EXISTS (SELECT 1 FROM pg_inherits p WHERE p.inhparent = s.relid) GROUP BY 1
