SELECT messages, decided, more, admitted
FROM admit('{}', '{}', $1, $2, array_fill($3::text::status, ARRAY[cardinality($1::uuid[])]), $4, $5, 500, $6,
           $7::text[]::status[])
