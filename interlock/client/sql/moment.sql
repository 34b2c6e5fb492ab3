-- The moment so many seconds ago, by the clock that every other moment is told by.
SELECT now() - $1 * interval '1 second'
