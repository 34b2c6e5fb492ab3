SELECT messages, decided FROM admit('{}', '{}', $1, array_fill(NULL::int, ARRAY[cardinality($1::uuid[])]),
                                    array_fill('cancelled'::status, ARRAY[cardinality($1::uuid[])]), $2, $3, 500, $4)
