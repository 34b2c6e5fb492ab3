-- The newest versions of these batches; what is accepted goes on with the definition that it pinned.
UPDATE batch_definition b SET withdrawn_at = now()
WHERE b.name = ANY($1) AND b.withdrawn_at IS NULL
  AND b.version = (SELECT max(n.version) FROM batch_definition n WHERE n.name = b.name)
