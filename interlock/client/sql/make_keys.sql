-- Keys of actions that do not exist yet, before any lock on one, in the order of names.
INSERT INTO queue (scope, name, template) SELECT 'leaf', name, name FROM unnest($1::text[]) u(name) ORDER BY name
ON CONFLICT (scope, name) DO NOTHING
