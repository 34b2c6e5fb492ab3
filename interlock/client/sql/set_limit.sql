SELECT set_limit('leaf', $1, $2, $3)
