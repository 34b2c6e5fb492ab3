SELECT messages, more, admitted, released, decided FROM admit($1, $2, $3, $4, $5::text[]::status[], $6, $7, $8, $9)
