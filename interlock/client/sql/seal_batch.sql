SELECT seal_batch($1, $2)
