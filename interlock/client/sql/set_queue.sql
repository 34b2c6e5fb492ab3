-- Change columns of one key ($3 as JSON); the executor admits what that lets through. Returns the key.
SELECT set_queue($1, $2, $3)
