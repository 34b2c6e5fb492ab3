-- Names of keys that somebody who wrote $1 may have meant: the same behind a prefix, else those of about its length.
SELECT name FROM queue WHERE scope <> 'pool'
ORDER BY right(name, length($1::text) + 1) = ':' || $1 DESC, abs(length(name) - length($1)), name LIMIT 200
