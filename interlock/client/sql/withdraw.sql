-- The newest versions of these actions; what is accepted goes on with the version that it pinned.
UPDATE action a SET withdrawn_at = now()
WHERE a.name = ANY($1) AND a.withdrawn_at IS NULL
  AND a.version = (SELECT max(b.version) FROM action b WHERE b.name = a.name)
