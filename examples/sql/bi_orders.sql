-- Orders of the customers $1 from the day $2 to the day $3, the same ones each time: up to 24 a day, some days none.
INSERT INTO demo.orders (customer, day, cents)
SELECT c.customer, d.day::date, 100 + abs(hashtextextended(format('%s/%s/%s', c.customer, d.day::date, n), 7)) % 50000
FROM unnest($1::text[]) c(customer)
CROSS JOIN generate_series($2::date::timestamp, $3::date::timestamp, interval '1 day') d(day)
CROSS JOIN LATERAL generate_series(1, abs(hashtextextended(format('%s/%s', c.customer, d.day::date), 7)) % 25) n
