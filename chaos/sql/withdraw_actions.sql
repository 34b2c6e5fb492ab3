-- Take back the actions called like this: nobody can ask for them any more.
UPDATE action SET withdrawn_at = now() WHERE name LIKE $1 AND withdrawn_at IS NULL
