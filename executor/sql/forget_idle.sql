SELECT lanes, keys FROM forget_idle($1 * interval '1 second')
