-- Definitions by name and version. A version never changes, so callers may keep what they read.
SELECT a.name, a.version, a.definition::text AS definition
FROM action a JOIN unnest($1::text[], $2::int[]) w(name, version) ON a.name = w.name AND a.version = w.version
