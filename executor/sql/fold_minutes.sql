SELECT fold_minutes($1 * interval '1 second')
